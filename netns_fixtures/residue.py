"""What a test left behind: in the process (descriptors, threads, children) and in the kernel (BPF, named namespaces).

The kernel frees programs and links a moment after their last user has gone, so what is new is looked at again until
it has vanished or patience has. Numbers that belong to other processes of the machine are told apart by who holds
them: parallel test runs do not accuse each other.
"""

import gc
import os
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Final

from netbpf.bpf import ids
from netbpf.errors import NetbpfError, PermissionDeniedError
from netns_fixtures.holders import children, held_elsewhere, ids_in, link_target, names, unheld

PATIENCE: Final = 20.0  # seconds: other runs on the machine let go of theirs meanwhile
_OWN_PATIENCE: Final = 1.0
_PAUSE: Final = 0.01  # between two looks
_SUSPICIOUS: Final = 0.05  # after which it is worth asking every process what it holds

# Kind of thing -> its key -> what to call it ("": only asked for once it is to be shown).
Items = dict[str, dict[object, str]]

# What this process keeps on purpose from one test to the next: (kind, number) of programs, maps and descriptors.
_kept: Final[set[tuple[str, object]]] = set()


def keep(*things: tuple[str, object]) -> None:
    """These are no leaks: they belong to the session, and go with it."""
    _kept.update(things)


def release(*things: tuple[str, object]) -> None:
    """These belong to a test again, or to nobody."""
    _kept.difference_update(things)


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Everything that could be left behind, at one moment. ``machine`` is empty if only the process was looked at."""

    process: Items = field(default_factory=dict)
    machine: Items = field(default_factory=dict)

    @classmethod
    def take(cls, *, machine: bool = True) -> "Snapshot":
        """Look now. Without CAP_SYS_ADMIN the kernel does not list programs, maps and links."""
        return cls(_process(), _machine() if machine else {})

    def leaks(self, *, patience: float | None = None) -> list[str]:
        """What is there now and was not then, one line each; empty as soon as it has all gone.

        ``patience`` is how many seconds the kernel gets to clean up, by default ``PATIENCE``; what the process itself
        holds gets at most one.
        """
        patience = PATIENCE if patience is None else patience
        machine_too = bool(self.machine)
        now = Snapshot.take(machine=machine_too)
        process, machine = _new(self.process, now.process), _new(self.machine, now.machine)
        if process:
            # Something may only wait for the cycle collector, such as an exception with its frames.
            gc.collect()
        start = time.monotonic()
        ask_at = _SUSPICIOUS
        while process or machine:
            passed = time.monotonic() - start
            if machine and passed >= ask_at:
                machine = _without(machine, held_elsewhere() | unheld(machine.get("map", {})))
                ask_at = passed + 10 * _SUSPICIOUS
            if passed >= (patience if machine else min(patience, _OWN_PATIENCE)):
                break
            time.sleep(_PAUSE)
            now = Snapshot.take(machine=machine_too)
            process, machine = _still(process, now.process), _still(machine, now.machine)
        return [*_lines(process), *_lines(machine)]


def _new(before: Items, after: Items) -> Items:
    found = {
        kind: {
            key: name
            for key, name in things.items()
            if key not in before.get(kind, {}) and (kind, _number(key)) not in _kept
        }
        for kind, things in after.items()
    }
    return {kind: things for kind, things in found.items() if things}


def _number(key: object) -> object:
    # A descriptor is told by its number and what it is open on.
    return int(key[0]) if isinstance(key, tuple) else key


def _still(suspects: Items, now: Items) -> Items:
    return _without(
        suspects,
        {
            (kind, key)
            for kind in suspects
            for key in suspects[kind]
            if key not in now.get(kind, {})
        },
    )


def _without(suspects: Items, cleared: set[tuple[str, object]]) -> Items:
    found = {
        kind: {key: name for key, name in things.items() if (kind, key) not in cleared}
        for kind, things in suspects.items()
    }
    return {kind: things for kind, things in found.items() if things}


def _lines(things: Items) -> Iterator[str]:
    for kind, found in things.items():
        for key, name in found.items():
            yield f"{kind}: {name or _label(kind, key)}"


# --- the process -------------------------------------------------------------------------------


def _process() -> Items:
    return {
        "descriptor": _descriptors(),
        "thread": {
            thread.ident: thread.name
            for thread in threading.enumerate()
            if thread.ident is not None
        },
        "child process": children(os.getpid()),
    }


def _descriptors() -> dict[object, str]:
    found: dict[object, str] = {}
    for number in os.listdir("/proc/self/fd"):
        target = link_target(f"/proc/self/fd/{number}")
        if not target:
            continue  # the one that listed them
        found[number, target] = (
            f"{number} -> {target}{_bpf_id(f'/proc/self/fdinfo/{number}', target)}"
        )
    return found


def _bpf_id(path: str, target: str) -> str:
    if not target.startswith("anon_inode:bpf"):
        return ""
    return "".join(f" ({kind} {number})" for kind, number in ids_in(path))


# --- the machine -------------------------------------------------------------------------------


def _machine() -> Items:
    found: Items = {}
    # Nothing tells who made a name. Of several workers none can say that it was not another one; the process that
    # started them looks at the end.
    if "PYTEST_XDIST_WORKER" not in os.environ:
        found["named namespace"] = {name: name for name in names("/run/netns")}
    kinds: dict[str, Callable[[], Iterator[int]]] = {
        "program": ids.program_ids, "map": ids.map_ids, "link": ids.link_ids,
    }  # fmt: skip
    for kind, list_them in kinds.items():
        try:
            found[kind] = dict.fromkeys(list_them(), "")
        except PermissionDeniedError:
            continue
    return found


def _label(kind: str, key: object) -> str:
    """What to call a program, map or link."""
    from netbpf.bpf.map import Map
    from netbpf.bpf.program import Program

    if kind not in ("program", "map") or not isinstance(key, int):
        return str(key)
    try:
        with Program.by_id(key) if kind == "program" else Map.by_id(key) as opened:
            return f"{key} {opened.info.name!r}"
    except NetbpfError:
        return f"{key}, gone by now"
