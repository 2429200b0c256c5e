"""Strict counter checks: these counters move by so much, and no other one moves.

A test that only looks at the counter it cares about does not notice when the program counts in the wrong place too.
"""

import difflib
import time
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import Any, Final, Self

from netns_fixtures.errors import ExpectationError

# Seconds. Programs have counted when send() returns, unless the machine handles packets elsewhere (RPS).
PATIENCE: Final = 1.0
_PAUSE: Final = 0.001  # between two looks at counters that are not there yet


def flatten(name: str, value: Any, into: dict[str, Any]) -> None:
    """Spread a nested value over paths: ``cfg.port``, ``ports[2]``, ``stats[0].packets``."""
    if isinstance(value, Mapping):
        for key, part in value.items():
            flatten(f"{name}.{key}" if name else str(key), part, into)
    elif isinstance(value, list | tuple):
        for index, part in enumerate(value):
            flatten(f"{name}[{index}]", part, into)
    else:
        into[name] = value


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


class Changes:
    """A ``with`` block during which exactly ``expected`` changes in what ``read()`` returns.

    ``read`` returns a mapping of names to values, nested as deep as it likes. ``expected`` gives by how much a number
    moves (one that appears was 0), and for anything else the value it has afterwards. ``ignore`` names what may do
    as it likes. Raises ExpectationError listing each deviation, unless the block itself raises.
    """

    def __init__(
        self,
        read: Callable[[], Mapping[str, Any]],
        expected: Mapping[str, Any],
        *,
        ignore: Sequence[str] = (),
        within: float = PATIENCE,
    ) -> None:
        self._read = read
        self.expected: dict[str, Any] = {}
        flatten("", expected, self.expected)
        self.ignore = frozenset(ignore)
        self.within = within
        self.before: dict[str, Any] = {}
        self.after: dict[str, Any] = {}

    def _now(self) -> dict[str, Any]:
        found: dict[str, Any] = {}
        flatten("", self._read(), found)
        return found

    def deviations(self) -> list[tuple[str, object, object, str]]:
        """(name, before, after, what was expected) of each counter that did not do as expected."""
        found = []
        for name in sorted({*self.before, *self.after, *self.expected} - self.ignore):
            before, after = self.before.get(name), self.after.get(name)
            absent = before is None and after is None and _is_number(self.expected.get(name))
            if absent or _is_number(before) or _is_number(after):
                before, after = before or 0, after or 0
                wanted = self.expected.get(name, 0)
                right = _is_number(wanted) and after == before + wanted
                words = f"{wanted:+}" if _is_number(wanted) else repr(wanted)
            else:
                right = after == self.expected.get(name, before)
                words = repr(self.expected[name]) if name in self.expected else "no change"
            if not right:
                found.append((name, before, after, words))
        return found

    def __enter__(self) -> Self:
        self.before = self._now()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        __tracebackhide__ = True
        if kind is not None:
            return
        deadline = time.monotonic() + self.within
        while True:
            self.after = self._now()
            wrong = self.deviations()
            if not wrong:
                return
            if time.monotonic() > deadline:
                raise ExpectationError(self._report(wrong))
            time.sleep(_PAUSE)

    def _report(self, wrong: list[tuple[str, object, object, str]]) -> str:
        width = max(len(name) for name, *_ in wrong)
        lines = ["counters moved in another way than expected:"]
        for name, before, after, words in wrong:
            if isinstance(before, int | float) and isinstance(after, int | float):
                lines.append(
                    f"  {name:<{width}}  {before} -> {after} ({after - before:+}), expected {words}"
                )
            else:
                lines.append(f"  {name:<{width}}  {before!r} -> {after!r}, expected {words}")
            if name not in self.before and name not in self.after:
                near = difflib.get_close_matches(name, [*self.after], 3) or sorted(self.after)[:10]
                lines.append(
                    f"  {'':<{width}}  there is no such counter; there are {', '.join(near) or 'none'}"
                )
        return "\n".join(lines)
