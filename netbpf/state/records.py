"""Records: what netbpf knows of its attachments beyond what the kernel shows.

A record is written before the kernel is changed and names every program that may be on the hook afterwards: the
one there was and the one that comes. It counts only while the kernel shows one of them, so a crash between the
two steps leaves nothing to repair.
"""

import functools
import json
import os
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from netbpf import layout
from netbpf.constants import Hook, Mode
from netbpf.model import ObjectRef
from netbpf.state.files import private_directory, write_whole

SCHEMA = "netbpf.record/1"


@dataclass(frozen=True, slots=True)
class Generation:
    """One program netbpf put, or is about to put, on a hook. ``attached_at`` is Unix time in seconds."""

    prog_id: int
    tag: str
    name: str
    object: ObjectRef
    mode: Mode
    attached_at: float


@dataclass(frozen=True, slots=True)
class Record:
    """A managed hook. ``netns`` is the namespace's inode, ``netns_name`` the name it was reached by, if any."""

    netns: int
    ifindex: int
    interface: str
    hook: Hook
    generations: tuple[Generation, ...]
    netns_name: str | None = None
    boot: str = ""

    def generation(self, prog_id: int) -> Generation | None:
        """The generation with a program id."""
        return next((one for one in self.generations if one.prog_id == prog_id), None)

    def only(self, generation: Generation) -> "Record":
        """The record once nothing but this generation can be on the hook."""
        return replace(self, generations=(generation,))

    def to_json(self) -> str:
        """The record as it is kept."""
        return json.dumps({"schema": SCHEMA, **asdict(self)}, indent=1)

    @classmethod
    def from_json(cls, text: str) -> "Record":
        """Parse a record; ValueError, TypeError or KeyError for anything that is none."""
        data = json.loads(text)
        if data.pop("schema") != SCHEMA:
            raise ValueError("not a netbpf record")
        generations = []
        for one in data.pop("generations"):
            one["object"], one["mode"] = ObjectRef(**one["object"]), Mode(one["mode"])
            generations.append(Generation(**one))
        return cls(**{**data, "hook": Hook(data["hook"]), "generations": tuple(generations)})


def write(record: Record) -> None:
    """Keep a record; NetbpfError where it cannot be written."""
    current = replace(record, boot=boot_id())
    write_whole(
        layout.record_file(record.netns, record.ifindex, record.hook), current.to_json().encode()
    )


def remove(record: Record) -> None:
    """Forget a record; harmless where it is gone."""
    layout.record_file(record.netns, record.ifindex, record.hook).unlink(missing_ok=True)


def read(netns: int, ifindex: int, hook: Hook) -> Record | None:
    """The record of a hook, or None; one that cannot be read counts as none (the kernel is the truth)."""
    return _parse(layout.record_file(netns, ifindex, hook))


def read_all() -> Iterator[Record]:
    """Every record of this host."""
    try:
        names = sorted(os.listdir(layout.records_dir()))
    except (FileNotFoundError, PermissionError, NotADirectoryError):
        return
    for name in names:
        if name.endswith(".json") and not name.startswith("."):
            record = _parse(layout.records_dir() / name)
            if record:
                yield record


def _parse(path: "os.PathLike[str]") -> Record | None:
    try:
        with open(path, encoding="utf-8") as file:
            record = Record.from_json(file.read())
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return None
    # Where /run survives a reboot, the ids in an old record would mean other programs.
    return record if record.boot == boot_id() else None


@functools.cache
def boot_id() -> str:
    """The kernel's name for this boot (man 5 proc_sys_kernel, random/boot_id)."""
    with open("/proc/sys/kernel/random/boot_id") as file:
        return file.read().strip()


def keep_object(sha256: str, data: bytes) -> None:
    """Keep a managed program's object beside the records, by content."""
    path = layout.object_file(sha256)
    if not path.exists():
        write_whole(path, data)


def sweep(alive: Callable[[int], bool]) -> list[Record]:
    """Forget what the kernel has forgotten: records of which no program is ``alive``, qdisc marks and kept objects
    that no record needs, interrupted writes. The records removed. Call with the lock held.
    """
    removed, kept = [], []
    for record in read_all():
        if any(alive(one.prog_id) for one in record.generations):
            kept.append(record)
        else:
            remove(record)
            removed.append(record)
    _only(
        layout.object_file("").parent,
        {layout.object_file(g.object.sha256).name for r in kept for g in r.generations},
    )
    _only(
        layout.qdisc_file(0, 0).parent,
        {layout.qdisc_file(one.netns, one.ifindex).name for one in kept},
    )
    return removed


def _only(directory: Path, names: set[str]) -> None:
    if directory.is_dir():
        for name in os.listdir(private_directory(directory)):
            if name not in names:
                (directory / name).unlink(missing_ok=True)
