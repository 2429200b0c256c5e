"""Who holds programs, maps and links: processes by /proc, names by the mounted bpffs."""

import os
from contextlib import suppress

from netbpf._sys import bpf as sys_bpf
from netbpf._sys.describe import KINDS, fdinfo, kind_of
from netbpf._sys.procfs import Descriptors
from netbpf.bpf import pin
from netbpf.errors import KernelError
from netbpf.insight.kernel_model import Holders, Process

_ID = {"program": "prog_id", "map": "map_id", "link": "link_id"}
_MOST_PINS = 100_000  # entries of bpffs that are looked at
_NOBODY = Holders()

Key = tuple[str, int]


class HolderTable:
    """All pins and processes, by kind and id; looked up once, when first asked."""

    def __init__(self, *kinds: str) -> None:
        """``kinds``: "program", "map", "link"; others are not looked at."""
        self._kinds = frozenset(kinds)
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
        if self._pins is None or self._processes is None:
            self._pins, self._processes = self._all_pins(), self._all_processes()
        key = kind, number
        pins, processes = self._pins.get(key), self._processes.get(key)
        if not pins and not processes:
            return _NOBODY
        return Holders(
            tuple(sorted(pins or ())),
            tuple(Process(pid, name) for pid, name in sorted((processes or {}).items())),
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
            keys = self._held_by(pid)
            name = _command(pid) if keys else ""
            for key in keys:
                found.setdefault(key, {})[int(pid)] = name
        return found

    def _held_by(self, pid: str) -> set[Key]:
        keys: set[Key] = set()
        targets = self._targets
        # A process that has ended, or is not ours to look at; a descriptor that was closed, or has no id.
        with suppress(OSError), Descriptors(pid) as descriptors:
            for fd, target in descriptors.targets():
                if kind := targets.get(target):
                    try:
                        keys.add((kind, descriptors.number(fd, _ID[kind])))
                    except (OSError, ValueError):
                        continue
        return keys


def _command(pid: str) -> str:
    try:
        with open(f"/proc/{pid}/comm", errors="backslashreplace") as file:
            return file.read().rstrip("\n")
    except OSError:
        return ""
