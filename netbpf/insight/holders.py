"""Who holds programs, maps and links: processes by /proc, names by the mounted bpffs."""

import os
from collections.abc import Iterator
from pathlib import Path

from netbpf._sys import bpf as sys_bpf
from netbpf._sys.describe import fdinfo, kind_of
from netbpf.bpf import pin
from netbpf.errors import KernelError
from netbpf.insight.kernel_model import Holders, Process

_ID = {"program": "prog_id", "map": "map_id", "link": "link_id"}
_MOST_PINS = 100_000  # entries of bpffs that are looked at

Key = tuple[str, int]


class HolderTable:
    """All pins and processes, by kind and id; looked up once, when first asked."""

    def __init__(self, *kinds: str) -> None:
        """``kinds``: "program", "map", "link"; others are not looked at."""
        self._kinds = frozenset(kinds)
        self._pins: dict[Key, list[str]] | None = None
        self._processes: dict[Key, dict[int, str]] | None = None

    def of(self, kind: str, number: int) -> Holders:
        """What holds one thing."""
        if self._pins is None or self._processes is None:
            self._pins, self._processes = self._all_pins(), self._all_processes()
        processes = self._processes.get((kind, number), {})
        return Holders(
            tuple(sorted(self._pins.get((kind, number), ()))),
            tuple(Process(pid, name) for pid, name in sorted(processes.items())),
        )

    def _all_pins(self) -> dict[Key, list[str]]:
        found: dict[Key, list[str]] = {}
        for path in map(str, pin.visible(_MOST_PINS)):
            try:
                with sys_bpf.obj_get(path) as fd:
                    kind = kind_of(fd.fileno())
                    if kind in self._kinds:
                        found.setdefault((kind, int(fdinfo(fd.fileno())[_ID[kind]])), []).append(path)  # fmt: skip
            except (KernelError, OSError, KeyError, ValueError):
                continue  # gone meanwhile, or an iterator, which has no id
        return found

    def _all_processes(self) -> dict[Key, dict[int, str]]:
        found: dict[Key, dict[int, str]] = {}
        own = str(os.getpid())
        for pid in os.listdir("/proc"):
            if not pid.isdigit() or pid == own:
                continue
            keys = set(self._held_by(pid))
            name = _command(pid) if keys else ""
            for key in keys:
                found.setdefault(key, {})[int(pid)] = name
        return found

    def _held_by(self, pid: str) -> Iterator[Key]:
        try:
            descriptors = os.listdir(f"/proc/{pid}/fd")
        except OSError:
            return  # ended, or not ours to look at
        for fd in descriptors:
            try:
                kind = kind_of(int(fd), pid)
                if kind in self._kinds:
                    yield kind, int(fdinfo(int(fd), pid)[_ID[kind]])
            except (OSError, KeyError, ValueError):
                continue


def _command(pid: str) -> str:
    try:
        return Path("/proc", pid, "comm").read_text(errors="backslashreplace").rstrip("\n")
    except OSError:
        return ""
