"""Records: what netbpf knows of its attachments beyond what the kernel shows.

A record is written before the kernel is changed and names every program that may be on the hook afterwards: the
one there was and the one that comes. It counts only while the kernel shows one of them, so a crash between the
two steps leaves nothing to repair.
"""

import functools
import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from netbpf import layout
from netbpf.constants import Hook, Mode
from netbpf.model import Member, Tap
from netbpf.state.codec import plain, revive
from netbpf.state.files import discard, files_in, read_small, write_whole

SCHEMA = "netbpf.record/2"
# Fields of a generation that records of earlier versions do not have.
_LATER: dict[str, Any] = {"taps": [], "untapped": 0}
_LIMIT = 16 << 20  # bytes; a member takes about 600


@dataclass(frozen=True, slots=True)
class Generation:
    """One program netbpf put, or is about to put, on a hook, and the members it runs.

    ``attached_at`` is Unix time in seconds; ``counters`` the id of the map in which a chain counts, 0 for a
    program alone; ``pinned`` are the ids of the maps that are pinned for it. ``taps`` are the captures in it, and
    ``untapped`` the id of the program that runs the same members without any, 0 where there is none.
    """

    prog_id: int
    tag: str
    name: str
    mode: Mode
    attached_at: float
    members: tuple[Member, ...]
    counters: int = 0
    pinned: tuple[int, ...] = ()
    taps: tuple[Tap, ...] = ()
    untapped: int = 0


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
        return json.dumps({"schema": SCHEMA, **plain(self)})

    @classmethod
    def from_json(cls, text: str | bytes) -> "Record":
        """Parse a record; ValueError for anything that is none."""
        try:
            data = json.loads(text)
            if data.pop("schema") != SCHEMA:
                raise ValueError("not a netbpf record")
            for one in data["generations"]:
                for name, nothing in _LATER.items():
                    one.setdefault(name, nothing)
            record = revive(cls, data)
        except (TypeError, KeyError, AttributeError, RecursionError) as error:
            raise ValueError("not a netbpf record") from error
        if not record.generations or not all(one.members or one.taps for one in record.generations):
            raise ValueError("a netbpf record without programs")
        ids = (record.netns, record.ifindex, *(one.prog_id for one in record.generations))
        if any(one >= 1 << 32 for one in ids):
            raise ValueError("a netbpf record with ids that the kernel does not give")
        return record


def files_of(record: Record) -> Iterator[str]:
    """The hashes of the kept files that a record needs."""
    for generation in record.generations:
        for one in generation.members:
            yield one.object.sha256
            if one.previous:
                yield one.previous.sha256
            if one.kernel_btf:
                yield one.kernel_btf


def write(record: Record) -> None:
    """Keep a record; NetbpfError where it cannot be written."""
    current = replace(record, boot=boot_id())
    write_whole(
        layout.record_file(record.netns, record.ifindex, record.hook), current.to_json().encode()
    )


def remove(record: Record) -> None:
    """Forget a record; harmless where it is gone."""
    discard(layout.record_file(record.netns, record.ifindex, record.hook))


def read(netns: int, ifindex: int, hook: Hook) -> Record | None:
    """The record of a hook, or None; one that cannot be read counts as none (the kernel is the truth)."""
    return _parse(layout.record_file(netns, ifindex, hook))


def read_all() -> Iterator[Record]:
    """Every record of this host. NetbpfError where others could have written them."""
    for path in files_in(layout.records_dir()):
        record = _parse(path)
        if record:
            yield record


def _parse(path: Path) -> Record | None:
    data = read_small(path, _LIMIT)
    if data is None:
        return None
    try:
        record = _revived(data)
    except ValueError:
        return None
    # A record speaks for the place it is named after, and, where /run survives a reboot, for its own boot only:
    # the ids in an old one mean other programs now.
    mine = layout.record_file(record.netns, record.ifindex, record.hook).name
    return record if path.name == mine and record.boot == boot_id() else None


@functools.lru_cache(maxsize=16)
def _revived(data: bytes) -> Record:
    """``Record.from_json``: a command reads the same record several times, and nobody can change one."""
    return Record.from_json(data)


@functools.cache
def boot_id() -> str:
    """The kernel's name for this boot (man 5 proc_sys_kernel, random/boot_id)."""
    with open("/proc/sys/kernel/random/boot_id") as file:
        return file.read().strip()


def keep_object(sha256: str, data: bytes) -> None:
    """Keep a managed program's object, or the kernel types it needs, beside the records, by content."""
    path = layout.object_file(sha256)
    if not path.is_file():
        write_whole(path, data)


def sweep(dead: Callable[[Record, int], bool], needed: Iterable[Record] = ()) -> list[Record]:
    """Forget records of which every program is ``dead``, kept objects that no record needs, and whatever else lies
    there: records of another boot, damaged ones, writes that a crash interrupted. The records kept. Objects of
    records in ``needed`` are kept too. Call with the lock held.
    """
    kept = [
        record
        for record in read_all()
        if not all(dead(record, one.prog_id) for one in record.generations)
    ]
    _only(
        layout.records_dir(),
        {layout.record_file(one.netns, one.ifindex, one.hook).name for one in kept},
    )
    _only(
        layout.object_file("").parent,
        {layout.object_file(one).name for record in (*kept, *needed) for one in files_of(record)},
    )
    return kept


def _only(directory: Path, names: set[str]) -> None:
    for path in files_in(directory):
        if path.name not in names:
            discard(path)
