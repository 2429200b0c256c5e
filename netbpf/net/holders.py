"""Who keeps a bpf_link: the processes that have it open, and the pins. For errors: what the kernel will not say.

Every descriptor of the machine may have to be looked at, so the search is bounded and what it finds is a help,
not proof: another PID namespace's processes and bpffs that are mounted elsewhere are not seen.
"""

import os
from pathlib import Path
from typing import Final, NamedTuple

from netbpf import layout
from netbpf._sys import bpf
from netbpf._sys.fd import Fd
from netbpf._sys.info import link_info, map_info
from netbpf.bpf import pin
from netbpf.errors import KernelError
from netbpf.text import escape

_MOST_DESCRIPTORS: Final = 50_000
_MOST_PINS: Final = 2_000
_MOST_NAMED: Final = 3


class Process(NamedTuple):
    """A process by its id and its command's name (comm)."""

    pid: int
    name: str


class Holders(NamedTuple):
    """What keeps a link: while one of these is left, it stays attached."""

    processes: tuple[Process, ...] = ()
    pins: tuple[Path, ...] = ()

    def __str__(self) -> str:
        """``process 12 (xdp-loader) and the pin /sys/fs/bpf/link``; "" where nothing was found."""
        found = [f"process {one.pid} ({escape(one.name)})" for one in self.processes]
        found += [f"the pin {escape(str(path))}" for path in self.pins]
        if len(found) > _MOST_NAMED:
            found[_MOST_NAMED:] = [f"{len(found) - _MOST_NAMED} more"]
        return " and ".join([", ".join(found[:-1]), found[-1]] if len(found) > 1 else found)


def link_holders(link_id: int) -> Holders:
    """The processes and pins that hold the link with this id, as far as they may be seen."""
    return Holders(_processes(link_id), _pins(link_id))


def _processes(link_id: int) -> tuple[Process, ...]:
    found: list[Process] = []
    looked = 0
    for pid in sorted(int(name) for name in os.listdir("/proc") if name.isdigit()):
        try:
            numbers = os.listdir(f"/proc/{pid}/fd")
            looked += len(numbers)
            if any(_is_link(pid, number, link_id) for number in numbers):
                name = Path(f"/proc/{pid}/comm").read_text(errors="replace").rstrip("\n")
                found.append(Process(pid, name))
        except OSError:
            continue  # it has ended, or is somebody else's
        if looked > _MOST_DESCRIPTORS:
            break
    return tuple(found)


def _is_link(pid: int | str, number: int | str, link_id: int) -> bool:
    """Whether a descriptor is that link (kernel/bpf/syscall.c bpf_link_show_fdinfo; "bpf-link" since Linux 5.7)."""
    try:
        name = str(Path(f"/proc/{pid}/fd/{number}").readlink())
        if "bpf" not in name or "link" not in name:
            return False
        with open(f"/proc/{pid}/fdinfo/{number}") as lines:
            return any(line.split() == ["link_id:", str(link_id)] for line in lines)
    except OSError:
        return False  # closed meanwhile


def pinned_maps() -> frozenset[int]:
    """The ids of maps that somebody has pinned, as far as that may be seen; netbpf's own pins do not count."""
    own = tuple(layout.map_pins(root) for root in pin.existing_bpffs())
    return frozenset(
        number
        for path in pin.visible(_MOST_PINS)
        if path.parent not in own and (number := _map_at(path))
    )


def _pins(link_id: int) -> tuple[Path, ...]:
    return tuple(path for path in pin.visible(_MOST_PINS) if _pinned(path, link_id))


def _pinned(path: Path, link_id: int) -> bool:
    try:
        with bpf.obj_get(str(path)) as opened:
            return "link" in _kind(opened) and link_info(opened.fileno()).id == link_id
    except (KernelError, OSError, ValueError):
        return False  # no longer there, not ours to open, or no BPF object


def _map_at(path: Path) -> int:
    try:
        with bpf.obj_get(str(path)) as opened:
            return map_info(opened.fileno()).id if "map" in _kind(opened) else 0
    except (KernelError, OSError, ValueError):
        return 0


def _kind(opened: Fd) -> str:
    """A map or program may have the same number, and nothing in its info says what it is."""
    return str(Path(f"/proc/self/fd/{opened.fileno()}").readlink())
