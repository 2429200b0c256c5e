"""Reading a file of cases. Everything is checked before anything is run, and what is wrong is named with its line.

docs/test.md describes the format.
"""

import os
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Final, NoReturn, TypeVar

from netbpf.constants import Hook
from netbpf.errors import CaptureError, NetbpfError, ObjectError, UsageError
from netbpf.manager.sources import BUILTIN
from netbpf.packets.cases_lines import Lines, Place
from netbpf.packets.cases_model import Case, CaseFile, Expected, Output, Step
from netbpf.packets.context import Context
from netbpf.packets.given import from_file
from netbpf.packets.hextext import from_hex
from netbpf.text import did_you_mean, escape

T = TypeVar("T")

_MOST: Final = 1 << 24  # bytes
_HOOKS: Final = {"xdp": Hook.XDP, "tc": Hook.TC_INGRESS}
_CONTEXT: Final = ("ifindex", "rx-queue", "meta", "mark", "priority", "cb", "protocol")
_EXPECTED: Final = ("verdict", "output", "ignore", "counters")
_STEP: Final = ("packet", "repeat", "set", *_EXPECTED, *_CONTEXT)
_PROGRAM: Final = ("object", "program", "hook", "set", "map-size", "include", "define")
_CASE: Final = ("name", "step", "ignore-counters", *dict.fromkeys((*_STEP, *_PROGRAM)))
_FILE: Final = ("packets", "case", "ignore", "ignore-counters", "output", *_PROGRAM, *_CONTEXT)
_INHERITED: Final = ("ignore", "ignore-counters", "output", *_PROGRAM, *_CONTEXT)


def read_cases(path: str | os.PathLike[str], *, object: str | None = None) -> CaseFile:  # noqa: A002 - the file's word
    """The cases of a TOML file; ``object`` is tested in place of what the file names.

    Raises UsageError with file and line for what is wrong in it (PacketTextError for packets), ToolMissingError where
    packets are written as expressions and scapy is missing.
    """
    shown = os.fspath(path)
    text = _text(shown)
    try:
        tree = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise _syntax(shown, text, str(error)) from None
    return _Reader(shown, tree, Lines(text), object).read()


def _text(path: str) -> str:
    try:
        with open(path, "rb") as file:
            content = file.read(_MOST)
    except OSError as error:
        raise UsageError(f"cannot read {escape(path)}: {error.strerror}") from None
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise UsageError(f"{escape(path)}:{line}: this is no UTF-8") from None


def _syntax(path: str, text: str, words: str) -> UsageError:
    message, _, place = words.partition(" (at ")
    line = place.removeprefix("line ").partition(",")[0]
    number = line if line.isdigit() else str(text.count("\n") + 1)
    return UsageError(
        f"{escape(path)}:{number}: this is no TOML: {message[:1].lower() + message[1:]}"
    )


class _Reader:
    def __init__(self, path: str, tree: dict[str, Any], lines: Lines, chosen: str | None) -> None:
        self.path, self.tree, self.lines, self.chosen = path, tree, lines, chosen
        self.folder = Path(path).parent
        self.named: dict[str, bytes] = {}

    # --- what is wrong ---

    def wrong(self, place: Place, message: str, hint: str | None = None) -> NoReturn:
        raise UsageError(f"{escape(self.path)}:{self.lines.of(*place)}: {message}", hint=hint)

    def at(self, place: Place, work: Callable[[], T]) -> T:
        """Do something of which an error is the file's fault."""
        try:
            return work()
        except NetbpfError as error:
            if isinstance(error, CaptureError | ObjectError):
                self.wrong(place, error.message, error.hint)
            if isinstance(error, UsageError):
                error.message = f"{escape(self.path)}:{self.lines.of(*place)}: {error.message}"
            raise

    def check_keys(
        self, table: Mapping[str, Any], known: tuple[str, ...], place: Place, what: str
    ) -> None:
        for key in table:
            if key not in known:
                self.wrong(
                    (*place, key),
                    f"{what} has no key {escape(key)}",
                    did_you_mean(key, known, "there are"),
                )

    def typed(
        self, table: Mapping[str, Any], key: str, kind: type[T], words: str, place: Place
    ) -> T | None:
        """A value of some type, or None where there is none."""
        value = table.get(key)
        if value is None:
            return None
        if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
            self.wrong((*place, key), f"{key} is {words}, not {escape(repr(value))}")
        return value

    def words(self, table: Mapping[str, Any], key: str, place: Place) -> tuple[str, ...]:
        """A text or a list of texts."""
        value = table.get(key, ())
        found = [value] if isinstance(value, str) else value
        if not isinstance(found, list | tuple) or not all(isinstance(one, str) for one in found):
            self.wrong(
                (*place, key), f"{key} is a text or a list of texts, not {escape(repr(value))}"
            )
        return tuple(found)

    # --- the file ---

    def read(self) -> CaseFile:
        self.check_keys(self.tree, _FILE, (), "the file")
        packets = self.typed(self.tree, "packets", dict, "a table of packets by name", ()) or {}
        for name, value in packets.items():
            self.named[name] = self.packet(value, ("packets", name))
        tables = self.tree.get("case")
        if not isinstance(tables, list) or not tables:
            self.wrong(("case",), "there is no case", "a case begins with [[case]]")
        cases: list[Case] = []
        for number, table in enumerate(tables):
            cases += self.cases(table, ("case", number))
        seen: dict[str, int] = {}
        for case in cases:
            if case.name in seen:
                raise UsageError(
                    f"{escape(self.path)}:{case.line}: a second case is called {escape(case.name)!r}, "
                    f"as the one in line {seen[case.name]}"
                )
            seen[case.name] = case.line
        return CaseFile(self.path, tuple(cases))

    def cases(self, table: Mapping[str, Any], place: Place) -> list[Case]:
        """A case, or one for each packet of a list."""
        self.check_keys(table, _CASE, place, "a case")
        table = {**{key: self.tree[key] for key in _INHERITED if key in self.tree}, **table}
        packets = table.get("packet")
        if "step" in table:
            if packets is not None:
                self.wrong((*place, "packet"), "a case has a packet or steps, and not both")
            return [self.case(table, place, self.steps(table, place), "")]
        if packets is None:
            self.wrong(place, "the case has no packet", 'such as packet = "IP()/UDP(dport=53)"')
        if not isinstance(packets, list):
            return [self.case(table, place, (self.step(table, place, packets),), "")]
        if not packets:
            self.wrong((*place, "packet"), "the list of packets is empty")
        return [
            self.case(table, place, (self.step(table, place, one),), f" [{number}]")
            for number, one in enumerate(packets, 1)
        ]

    def case(
        self, table: Mapping[str, Any], place: Place, steps: tuple[Step, ...], suffix: str
    ) -> Case:
        counters = self.counters(table, place)
        for number, step in enumerate(steps):
            if (
                counters is None
                and step.verdict is None
                and step.output is None
                and step.counters is None
            ):
                where = (*place, "step", number) if "step" in table else place
                self.wrong(where, "nothing is expected: give verdict, output or counters")
        name = self.typed(table, "name", str, "a text", place) or f"line {self.lines.of(*place)}"
        own = self.typed(table, "object", str, "a file, or builtin:NAME", place)
        if own is None and self.chosen is None:
            self.wrong(
                place, "which object is tested?", 'say object = "prog.bpf.c" at the top of the file'
            )
        hook = self.typed(table, "hook", str, '"xdp" or "tc"', place)
        if hook is not None and hook not in _HOOKS:
            self.wrong((*place, "hook"), f'hook is "xdp" or "tc", not {escape(hook)!r}')
        inherited = self.typed(self.tree, "set", dict, "a table of names and values", ()) or {}
        single = "step" not in table
        return Case(
            name + suffix, self.lines.of(*place), self.chosen or self.resolved(own or ""),
            # What belongs to a single step is the case's.
            tuple(replace(one, counters=None, settings={}) if single else one for one in steps),
            self.typed(table, "program", str, "the name of a program", place), _HOOKS[hook] if hook else None,
            {**inherited, **(self.typed(table, "set", dict, "a table of names and values", place) or {})},
            self.typed(table, "map-size", dict, "a table of maps and numbers", place) or {},
            tuple(str(self.folder / one) for one in self.words(table, "include", place)),
            self.words(table, "define", place), counters, self.words(table, "ignore-counters", place),
            self.lines.of_keys(table, *place),
        )  # fmt: skip

    def resolved(self, name: str) -> str:
        """A file is named as seen from the file of cases."""
        return name if name.startswith(BUILTIN) else str(self.folder / name)

    # --- steps ---

    def steps(self, table: Mapping[str, Any], place: Place) -> tuple[Step, ...]:
        found = self.typed(table, "step", list, "a list of tables: [[case.step]]", place) or []
        # A case's own expectations and context are those of each of its steps.
        common = {key: table[key] for key in ("ignore", "output", *_CONTEXT) if key in table}
        if "verdict" in table:
            self.wrong((*place, "verdict"), "each step has a verdict of its own")
        made = []
        for number, one in enumerate(found):
            where: Place = (*place, "step", number)
            if not isinstance(one, dict):
                self.wrong(where, "a step is a table: [[case.step]]")
            self.check_keys(one, _STEP, where, "a step")
            if "packet" not in one:
                self.wrong(where, "the step has no packet")
            made.append(self.step({**common, **one}, where, one["packet"]))
        if not made:
            self.wrong((*place, "step"), "there is no step")
        return tuple(made)

    def step(self, table: Mapping[str, Any], place: Place, packet: object) -> Step:
        repeat = self.typed(table, "repeat", int, "a number of times", place)
        if repeat is not None and not 0 < repeat <= 1_000_000:
            self.wrong((*place, "repeat"), "repeat is a number from 1 to 1000000")
        verdict = self.words(table, "verdict", place) if "verdict" in table else None
        if verdict == ():
            self.wrong((*place, "verdict"), "verdict is an empty list")
        return Step(
            self.packet(packet, (*place, "packet")), self.context(table, place), self.lines.of(*place), verdict,
            self.output(table, place), self.words(table, "ignore", place), self.counters(table, place),
            self.typed(table, "set", dict, "a table of names and values", place) or {}, repeat or 1,
            self.lines.of_keys(table, *place),
        )  # fmt: skip

    def packet(self, value: object, place: Place) -> bytes:
        """A name of [packets], an expression, ``{hex = ...}``, ``{file = ..., number = ...}``."""
        if isinstance(value, str):
            if value in self.named:
                return self.named[value]
            if value.isidentifier() and self.named:
                self.wrong(
                    place,
                    f"there is no packet {value}",
                    did_you_mean(value, self.named, "there are"),
                )
            from netbpf.packets.expression import read_expression

            return self.at(place, lambda: read_expression(value))
        if not isinstance(value, dict):
            self.wrong(place, "a packet is an expression, {hex = ...} or {file = ...}")
        self.check_keys(value, ("hex", "file", "number"), place, "a packet")
        digits = self.typed(value, "hex", str, "hex digits", place)
        file = self.typed(value, "file", str, "a file", place)
        number = self.typed(value, "number", int, "a number, from 1", place)
        if (digits is None) == (file is None):
            self.wrong(place, "a packet is {hex = ...} or {file = ...}")
        if digits is not None:
            return self.at(place, lambda: from_hex(digits))
        return self.at(place, lambda: from_file(self.folder / str(file), number).packet)

    def context(self, table: Mapping[str, Any], place: Place) -> Context:
        given: dict[str, Any] = {}
        for key in _CONTEXT:
            if key not in table:
                continue
            name = key.replace("-", "_")
            if key == "meta":
                text = self.typed(table, key, str, "hex digits", place) or ""
                given[name] = self.at((*place, key), partial(from_hex, text))
            elif key == "cb":
                words = self.typed(table, key, list, "a list of numbers", place) or []
                if not all(isinstance(one, int) for one in words):
                    self.wrong((*place, key), "cb is a list of numbers")
                given[name] = tuple(words)
            else:
                given[name] = self.typed(table, key, int, "a number", place) or 0
        return self.at(place, lambda: Context(**given))

    # --- expectations ---

    def output(self, table: Mapping[str, Any], place: Place) -> Output | None:
        value, where = table.get("output"), (*place, "output")
        if value is None:
            return None
        if value == "unchanged":
            return Output()
        if isinstance(value, str):
            return Output(self.packet(value, where))
        if not isinstance(value, dict):
            self.wrong(
                where, 'output is "unchanged", a packet, or a table of fields: {"IP.ttl" = 63}'
            )
        fields = _flat(value)
        packet = {
            key: fields.pop(key) for key in ("hex", "file", "number", "packet") if key in fields
        }
        context = {key: fields.pop(key) for key in [*fields] if key.startswith(("skb.", "xdp."))}
        whole = packet.get("packet", packet or None)
        if whole is None:
            return Output(None, fields, context)
        if fields:
            self.wrong(where, "output is a packet or fields that change, and not both")
        return Output(self.packet(whole, where), {}, context)

    def counters(self, table: Mapping[str, Any], place: Place) -> dict[str, Expected] | None:
        found = self.typed(table, "counters", dict, "a table of names and numbers", place)
        if found is None:
            return None
        flat = _flat(found)
        for name, value in flat.items():
            if not isinstance(value, int | float | str):
                self.wrong(
                    (*place, "counters", name),
                    f"{escape(name)} moves by a number, or is a text afterwards",
                )
        return flat


def _flat(table: Mapping[str, Any], before: str = "") -> dict[str, Any]:
    """``IP.ttl = 63`` is, for TOML, a table in a table."""
    found: dict[str, Any] = {}
    for key, value in table.items():
        if isinstance(value, dict):
            found.update(_flat(value, f"{before}{key}."))
        else:
            found[before + key] = value
    return found
