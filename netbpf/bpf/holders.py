"""Who holds programs, maps, links and BTF: processes by /proc, names by the bpffs that are mounted here.

The kernel keeps no list of them. Another PID namespace's processes, and bpffs that are mounted elsewhere, are not seen:
what is found is a help, and nothing found is no proof.
"""

import os
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

from netbpf import layout
from netbpf._sys import bpf as sys_bpf
from netbpf._sys.describe import KINDS, fdinfo, kind_of
from netbpf._sys.procfs import Descriptors
from netbpf.bpf import pin
from netbpf.errors import KernelError
from netbpf.text import escape

# What a descriptor of each kind is called by in fdinfo (kernel/bpf/syscall.c, kernel/bpf/btf.c: *_show_fdinfo).
_ID: Final = {"program": "prog_id", "map": "map_id", "link": "link_id", "btf": "btf_id"}
_MOST_PINS: Final = 100_000
# For the words of an error, which is not to wait for a machine with a million descriptors.
_FEW_PINS: Final = 2_000
_FEW_DESCRIPTORS: Final = 50_000
_MOST_NAMED: Final = 3


@dataclass(frozen=True, slots=True)
class Process:
    """A process that has a descriptor of something; ``name`` is its command (comm), at most 15 characters."""

    pid: int
    name: str


@dataclass(frozen=True, slots=True)
class Holders:
    """What keeps something alive, as far as it can be seen: pins and processes."""

    pins: tuple[str, ...] = ()
    processes: tuple[Process, ...] = ()

    def __str__(self) -> str:
        """``process 12 (xdp-loader) and the pin /sys/fs/bpf/link``; "" where nothing was found."""
        found = [f"process {one.pid} ({escape(one.name)})" for one in self.processes]
        found += [f"the pin {escape(path)}" for path in self.pins]
        if len(found) > _MOST_NAMED:
            found[_MOST_NAMED:] = [f"{len(found) - _MOST_NAMED} more"]
        return " and ".join([", ".join(found[:-1]), found[-1]] if len(found) > 1 else found)


NOBODY: Final = Holders()
Key = tuple[str, int]


class HolderTable:
    """All pins and processes, by kind and id; looked up once, when first asked."""

    def __init__(
        self,
        *kinds: str,
        own: bool = False,
        most_pins: int = _MOST_PINS,
        most_descriptors: int | None = None,
    ) -> None:
        """``kinds``: "program", "map", "link", "btf"; others are not looked at.

        ``own`` counts this process too, which has open what it asks about. At most so many names in bpffs and
        descriptors are looked at; None: all.
        """
        self._kinds = frozenset(kinds)
        self._own, self._most_pins, self._left = own, most_pins, most_descriptors
        self._targets = {
            form.format(name): kind
            for name, kind in KINDS.items()
            if kind in self._kinds
            for form in ("anon_inode:{}", "anon_inode:[{}]")
        }
        self._pins: dict[Key, list[str]] | None = None
        self._processes: dict[Key, dict[int, str]] | None = None

    def of(self, kind: str, number: int) -> Holders:
        """What holds one thing."""
        pins, processes = self.pins().get((kind, number)), self.processes(kind, number)
        return Holders(tuple(sorted(pins or ())), processes) if pins or processes else NOBODY

    def processes(self, kind: str, number: int) -> tuple[Process, ...]:
        """The processes that have one thing open, by their ids."""
        if self._processes is None:
            self._processes = self._all_processes()
        found = self._processes.get((kind, number), {})
        return tuple(Process(pid, name) for pid, name in sorted(found.items()))

    def pins(self) -> dict[Key, list[str]]:
        """The paths of all pins, by kind and id."""
        if self._pins is None:
            self._pins = self._all_pins()
        return self._pins

    def _all_pins(self) -> dict[Key, list[str]]:
        found: dict[Key, list[str]] = {}
        if self._kinds == {"btf"}:
            return found  # there are no pins of those
        for path in map(str, pin.visible(self._most_pins)):
            try:
                with sys_bpf.obj_get(path) as fd:
                    kind = kind_of(fd.fileno())
                    if kind in self._kinds:
                        found.setdefault((kind, int(fdinfo(fd.fileno())[_ID[kind]])), []).append(path)  # fmt: skip
            except (KernelError, OSError, KeyError, ValueError):
                continue  # gone meanwhile, not ours to open, or an iterator, which has no id
        return found

    def _all_processes(self) -> dict[Key, dict[int, str]]:
        found: dict[Key, dict[int, str]] = {}
        own = "" if self._own else str(os.getpid())
        for pid in os.listdir("/proc"):
            if not pid.isdigit() or pid == own:
                continue
            keys = self._held_by(pid)
            name = _command(pid) if keys else ""
            for key in keys:
                found.setdefault(key, {})[int(pid)] = name
            if self._left is not None and self._left < 0:
                break
        return found

    def _held_by(self, pid: str) -> set[Key]:
        keys: set[Key] = set()
        targets = self._targets
        looked = 0
        # A process that has ended, or is not ours to look at; a descriptor that was closed, or has no id.
        with suppress(OSError), Descriptors(pid) as descriptors:
            for looked, (fd, target) in enumerate(descriptors.targets(), 1):
                if self._left is not None and looked > self._left:
                    break
                if kind := targets.get(target):
                    try:
                        keys.add((kind, descriptors.number(fd, _ID[kind])))
                    except (OSError, ValueError):
                        continue
        if self._left is not None:
            self._left -= looked
        return keys


def _command(pid: str) -> str:
    try:
        with open(f"/proc/{pid}/comm", errors="backslashreplace") as file:
            return file.read().rstrip("\n")
    except OSError:
        return ""


def link_holders(link_id: int) -> Holders:
    """The processes and pins that hold a link, as far as they may be seen, for the words of an error: bounded."""
    table = HolderTable(
        "link", own=True, most_pins=_FEW_PINS, most_descriptors=_FEW_DESCRIPTORS
    )  # fmt: skip
    return table.of("link", link_id)


def pinned_maps() -> frozenset[int]:
    """The ids of maps that somebody has pinned, as far as that may be seen; netbpf's own pins do not count."""
    own = tuple(str(layout.map_pins(root)) for root in pin.existing_bpffs())
    return frozenset(
        number
        for (_, number), paths in HolderTable("map").pins().items()
        if any(os.path.dirname(path) not in own for path in paths)  # noqa: PTH120 - of thousands, Path is slow
    )
