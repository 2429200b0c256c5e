"""Who holds programs, maps and links, so that nobody is accused of what others hold."""

import os
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

from netbpf import layout
from netbpf.bpf import pin
from netbpf.bpf.holders import pinned_maps
from netbpf.constants import MapType
from netbpf.errors import NetbpfError

_MOST_PINS: Final = 10_000  # names in bpffs that are looked at
Things = set[tuple[str, object]]  # (kind, id)

_KEPT: Final = ("links", "maps")  # the directories of netbpf's own pins, with a hash or without
_IDS: Final = {"prog_id:": "program", "map_id:": "map", "link_id:": "link"}


def held_elsewhere() -> Things:
    """Programs, maps and links that others hold: by descriptor, on interfaces of their namespaces, by netbpf's pins."""
    found = _pinned_by_netbpf()
    ours = _family(os.getpid())
    seen = {link_target(f"/proc/{pid}/ns/net") for pid in ours}
    for name in names("/proc"):
        if not name.isdigit() or int(name) in ours:
            continue
        namespaces = [f"/proc/{name}/ns/net"]
        for number in names(f"/proc/{name}/fd"):
            path = f"/proc/{name}/fd/{number}"
            target = link_target(path)
            if target.startswith("anon_inode:bpf"):
                found |= set(ids_in(f"/proc/{name}/fdinfo/{number}"))
            elif target.startswith("net:["):
                namespaces.append(path)
        for path in namespaces:
            target = link_target(path)
            if target and target not in seen:
                seen.add(target)
                found |= _attached_in(path)
    return found | _maps_of(found)


def _pinned_by_netbpf() -> Things:
    """What netbpf keeps for another state directory, which is none of ours; and of our own the maps, which it pins for
    as long as a program needs them: it is the program that would be left behind.
    """
    found: Things = set()
    for path in pin.visible(_MOST_PINS):
        directory = path.parent
        if directory.parent.name != layout.PIN_ROOT or not directory.name.startswith(_KEPT):
            continue
        root = directory.parents[1]
        if directory == layout.link_pins(root):
            continue
        try:
            opened = pin.open_pin(path)
        except NetbpfError:
            continue
        if opened is not None:
            with opened as fd:
                there = set(ids_in(f"/proc/self/fdinfo/{fd.fileno()}"))
            found |= there
    return found


def unheld(maps: Iterable[object]) -> Things:
    """Prog arrays that nothing holds, with the programs in them: nobody could let go of them. Linux 6.18 keeps one for
    good if its last two users close it before it is emptied (prog_array_map_clear, measured), whoever they are.
    """
    from netbpf.bpf.map import Map

    found: Things = set()
    pinned: frozenset[int] | None = None
    for number in maps:
        assert isinstance(number, int)
        try:
            with Map.by_id(number) as one:
                if one.info.type != MapType.PROG_ARRAY:
                    continue
                # User space is shown ids (kernel/bpf/arraymap.c, prog_fd_array_sys_lookup_elem).
                elements = {int.from_bytes(value, sys.byteorder) for _, value in one.entries()}
        except NetbpfError:
            continue
        pinned = pinned_maps() if pinned is None else pinned
        if number not in pinned:
            found |= {("map", number), *(("program", element) for element in elements)}
    return found | _maps_of(found)


def link_target(path: str) -> str:
    """What a symbolic link names, such as ``anon_inode:bpf-map``; "" where it is gone."""
    try:
        return os.readlink(path)  # noqa: PTH115 - thousands of them, and pathlib is slow
    except OSError:
        return ""


def _family(pid: int) -> set[int]:
    found = {pid}
    for child in children(pid):
        if isinstance(child, int):
            found |= _family(child)
    return found


def _attached_in(path: str) -> Things:
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


def _maps_of(held: Things) -> Things:
    from netbpf.bpf.program import Program

    found: Things = set()
    for kind, number in held:
        if kind == "program" and isinstance(number, int):
            try:
                with Program.by_id(number) as program:
                    found |= {("map", one) for one in program.info.map_ids}
            except NetbpfError:
                continue
    return found


# --- /proc ---


def ids_in(path: str) -> Iterator[tuple[str, int]]:
    """(kind, id) of what a descriptor is open on, by its file in ``fdinfo``."""
    try:
        text = Path(path).read_text()
    except OSError:
        return
    for line in text.splitlines():
        name, _, number = line.partition("\t")
        if name in _IDS:
            yield _IDS[name], int(number)


def names(directory: str) -> list[str]:
    """What is in a directory; nothing where it is gone."""
    try:
        return os.listdir(directory)
    except OSError:
        return []


def children(pid: int) -> dict[object, str]:
    """The children of a process, and what to call them."""
    found: dict[object, str] = {}
    for task in names(f"/proc/{pid}/task"):
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
