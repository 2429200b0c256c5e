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
from pathlib import Path
from typing import Final

from netbpf import layout
from netbpf.bpf import ids, pin
from netbpf.errors import NetbpfError, PermissionDeniedError

PATIENCE: Final = 5.0  # seconds
_OWN_PATIENCE: Final = 1.0
_PAUSE: Final = 0.01  # between two looks
_MOST_PINS: Final = 10_000  # names in bpffs that are looked at
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

    def leaks(self, *, patience: float = PATIENCE) -> list[str]:
        """What is there now and was not then, one line each; empty as soon as it has all gone.

        ``patience`` is how many seconds the kernel gets to clean up; what the process itself holds gets at most one.
        """
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
                machine = _without(machine, _held_elsewhere())
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
        "child process": _children(os.getpid()),
    }


def _descriptors() -> dict[object, str]:
    found: dict[object, str] = {}
    for number in os.listdir("/proc/self/fd"):
        target = _target(f"/proc/self/fd/{number}")
        if not target:
            continue  # the one that listed them
        found[number, target] = (
            f"{number} -> {target}{_bpf_id(f'/proc/self/fdinfo/{number}', target)}"
        )
    return found


def _bpf_id(path: str, target: str) -> str:
    if not target.startswith("anon_inode:bpf"):
        return ""
    return "".join(f" ({kind} {number})" for kind, number in _ids_in(path))


_IDS: Final = {"prog_id:": "program", "map_id:": "map", "link_id:": "link"}


def _ids_in(path: str) -> Iterator[tuple[str, int]]:
    try:
        text = Path(path).read_text()
    except OSError:
        return
    for line in text.splitlines():
        name, _, number = line.partition("\t")
        if name in _IDS:
            yield _IDS[name], int(number)


def _children(pid: int) -> dict[object, str]:
    found: dict[object, str] = {}
    for task in _names(f"/proc/{pid}/task"):
        try:
            pids = Path(f"/proc/{pid}/task/{task}/children").read_text().split()
        except OSError:
            continue
        for child in pids:
            found[int(child)] = f"{child} ({_command(child)})"
    return found


def _command(pid: str) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return "ended"


def _names(directory: str) -> list[str]:
    try:
        return os.listdir(directory)
    except OSError:
        return []


# --- the machine -------------------------------------------------------------------------------


def _machine() -> Items:
    found: Items = {}
    # Nothing tells who made a name. Of several workers none can say that it was not another one; the process that
    # started them looks at the end.
    if "PYTEST_XDIST_WORKER" not in os.environ:
        found["named namespace"] = {name: name for name in _names("/run/netns")}
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


def _held_elsewhere() -> set[tuple[str, object]]:
    """Programs, maps and links that other processes hold, by descriptor or on interfaces of their namespaces; and
    maps that netbpf's manager pins for as long as a program needs them: it is the program that would be left behind.
    """
    found: set[tuple[str, object]] = {
        ("map", int(path.name))
        for path in pin.visible(_MOST_PINS)
        if path.name.isdecimal() and path.parent == layout.map_pins(path.parents[2])
    }
    ours = _family(os.getpid())
    seen = {_target(f"/proc/{pid}/ns/net") for pid in ours}
    for name in _names("/proc"):
        if not name.isdigit() or int(name) in ours:
            continue
        namespaces = [f"/proc/{name}/ns/net"]
        for number in _names(f"/proc/{name}/fd"):
            path = f"/proc/{name}/fd/{number}"
            target = _target(path)
            if target.startswith("anon_inode:bpf"):
                found |= set(_ids_in(f"/proc/{name}/fdinfo/{number}"))
            elif target.startswith("net:["):
                namespaces.append(path)
        for path in namespaces:
            target = _target(path)
            if target and target not in seen:
                seen.add(target)
                found |= _attached_in(path)
    return found | _maps_of(found)


def _target(path: str) -> str:
    try:
        return os.readlink(path)  # noqa: PTH115 - thousands of them, and pathlib is slow
    except OSError:
        return ""


def _family(pid: int) -> set[int]:
    found = {pid}
    for child in _children(pid):
        if isinstance(child, int):
            found |= _family(child)
    return found


def _attached_in(path: str) -> set[tuple[str, object]]:
    from netbpf.net.netns import Namespace
    from netbpf.net.occupants import occupants
    from netbpf.net.rtnetlink import Session

    try:
        with Namespace.open(path) as namespace, Session(namespace) as session:
            there = occupants(session)
    except NetbpfError:
        return set()  # its process has ended meanwhile: then so has what it held
    links = {("link", one.link_id) for one in there if one.link_id}
    return links | {("program", one.prog_id) for one in there}


def _maps_of(held: set[tuple[str, object]]) -> set[tuple[str, object]]:
    from netbpf.bpf.program import Program

    found: set[tuple[str, object]] = set()
    for kind, number in held:
        if kind == "program" and isinstance(number, int):
            try:
                with Program.by_id(number) as program:
                    found |= {("map", one) for one in program.info.map_ids}
            except NetbpfError:
                continue
    return found
