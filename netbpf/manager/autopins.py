"""The pins of ``attach auto``, and the records beside them.

A pin is called ``NUMBER-INDEX-NAME`` (a link, or a program that has no hook) or ``NUMBER-map-NAME``.
"""

import errno
import json
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from netbpf import layout
from netbpf._sys import bpf as sys_bpf
from netbpf._sys.info import link_info
from netbpf.bpf import pin
from netbpf.bpf.program import Program
from netbpf.constants import LinkType
from netbpf.errors import KernelError, NetbpfError, NotAttachedError
from netbpf.model import ObjectRef, ProgramInfo
from netbpf.state.files import discard, files_in, read_small, write_whole

_SCHEMA = "netbpf.auto/1"
_LIMIT = 1 << 20  # bytes of a record
_NAME = re.compile(r"(\d{1,9})-(\d{1,9}|map)-\w*")
_DETACHABLE = frozenset({LinkType.CGROUP, LinkType.NETNS})


class Note(NamedTuple):
    """What a record says of one program: its whole name, its section, its hook in words."""

    name: str
    section: str
    hook: str


@dataclass(frozen=True, slots=True)
class Record:
    """From which object a set came, and when (Unix time in seconds)."""

    object: ObjectRef
    attached_at: float
    programs: tuple[Note, ...] = ()


@dataclass(frozen=True, slots=True)
class Companion:
    """One program of a set. ``link_id`` is 0 for one that a process puts on a socket of its own.

    ``section`` and ``hook`` are "" where no record tells; ``gone`` says that the cgroup or namespace it was on does
    not exist any more.
    """

    program: ProgramInfo
    name: str
    section: str
    hook: str
    link_id: int
    gone: bool
    pin: Path


@dataclass(frozen=True, slots=True)
class CompanionSet:
    """What one ``attach auto`` attached; ``object`` and ``attached_at`` are None where the record is lost."""

    number: int
    programs: tuple[Companion, ...]
    object: ObjectRef | None = None
    attached_at: float | None = None
    pins: tuple[Path, ...] = ()


# --- making ---


@dataclass(slots=True)
class Pins:
    """The pins of a set that is being made."""

    number: int
    directory: Path
    record: Record
    made: list[Path] = field(default_factory=list)
    notes: list[Note] = field(default_factory=list)

    def keep(self, note: Note, fd: int) -> None:
        """Pin a link, or a program."""
        self.notes.append(note)
        _write(self.number, Record(self.record.object, self.record.attached_at, tuple(self.notes)))
        self._pin(f"{self.number}-{len(self.notes) - 1}-{_plain(note.name)}", fd)

    def keep_map(self, name: str, fd: int) -> None:
        """Pin a map."""
        self._pin(f"{self.number}-map-{_plain(name)}", fd)

    def _pin(self, name: str, fd: int) -> None:
        path = self.directory / name
        self.made.append(path)
        pin.pin(path, fd)


@contextmanager
def new(reference: ObjectRef) -> Iterator[Pins]:
    """A new set; if the block ends with an exception, none of its pins stays."""
    bpffs = pin.bpffs()
    taken = [int(found[1]) for path in _pins() if (found := _NAME.fullmatch(path.name))]
    number = max([*taken, *(one for one, _ in _records())], default=0) + 1
    pins = Pins(number, layout.auto_pins(bpffs), Record(reference, time.time()))
    try:
        yield pins
    except BaseException:
        for path in pins.made:
            with suppress(NetbpfError):
                _unpin(path)
        discard(layout.auto_record(number))
        raise


def _plain(name: str) -> str:
    return re.sub(r"\W", "_", name, flags=re.ASCII)[:100]


# --- what is there ---


def sets() -> list[CompanionSet]:
    """Everything that ``attach auto`` attached and that is still there, by number.

    Raises PermissionDeniedError without CAP_SYS_ADMIN, NetbpfError where others can write to the pins.
    """
    members: dict[int, list[Path]] = {}
    for path in _pins():
        found = _NAME.fullmatch(path.name)
        if found:
            members.setdefault(int(found[1]), []).append(path)
    if not members:
        return []
    known = dict(_records())
    return [_set(number, paths, known.get(number)) for number, paths in sorted(members.items())]


def find(number: int) -> CompanionSet:
    """A set by its number; NotAttachedError where there is none."""
    for one in sets():
        if one.number == number:
            return one
    raise NotAttachedError(f"there is no set {number}")


def _set(number: int, paths: list[Path], record: Record | None) -> CompanionSet:
    programs = []
    for path in sorted(paths, key=_index):
        index = _index(path)
        if index >= 0 and (one := _companion(path, index, record)):
            programs.append(one)
    reference, since = (record.object, record.attached_at) if record else (None, None)
    return CompanionSet(number, tuple(programs), reference, since, tuple(paths))


def _index(path: Path) -> int:
    text = path.name.split("-")[1]
    return int(text) if text.isdecimal() else -1


def _companion(path: Path, index: int, record: Record | None) -> Companion | None:
    fd = pin.open_pin(path)
    if fd is None:
        return None
    known = record.programs[index] if record and index < len(record.programs) else None
    link_id, gone = 0, False
    # A program answers the question for a link's description too, and with another one.
    kind = str(Path(f"/proc/self/fd/{fd.fileno()}").readlink())
    if "link" in kind:
        with fd:
            link = link_info(fd.fileno())
        link_id, gone = link.id, link.gone
        try:
            program = Program.by_id(link.prog_id)
        except NotAttachedError:
            return None
    elif "prog" in kind:
        program = Program(fd)
    else:
        fd.close()
        return None
    with program:
        info = program.info
    name = known.name if known else info.name
    section, hook = (known.section, known.hook) if known else ("", "")
    return Companion(info, name, section, hook, link_id, gone, path)


def _pins() -> list[Path]:
    return [path for root in pin.existing_bpffs() for path in pin.listed(layout.auto_pins(root))]


# --- taking away ---


def remove(one: CompanionSet) -> None:
    """Take a set off its hooks and forget it."""
    for path in one.pins:
        _unpin(path)
    discard(layout.auto_record(one.number))


def _unpin(path: Path) -> None:
    try:
        fd = pin.open_pin(path)
    except KernelError as error:
        if error.errno != errno.EACCES:
            raise
        fd = None
    if fd is not None:
        with fd:
            _detach(fd.fileno())
    pin.unpin(path)


def _detach(fd: int) -> None:
    """Off its hook at once, though others may hold the link too; links for tracing have no such operation."""
    is_link = "link" in str(Path(f"/proc/self/fd/{fd}").readlink())
    if is_link and link_info(fd).type in _DETACHABLE:
        with suppress(KernelError):
            sys_bpf.link_detach(fd)


def sweep() -> None:
    """Remove records of sets that have no pin any more."""
    pinned = {int(found[1]) for path in _pins() if (found := _NAME.fullmatch(path.name))}
    for number, _ in _records():
        if number not in pinned:
            discard(layout.auto_record(number))


# --- records ---


def _write(number: int, record: Record) -> None:
    content = {
        "schema": _SCHEMA,
        "object": {"path": record.object.path, "sha256": record.object.sha256},
        "attached_at": record.attached_at,
        "programs": [one._asdict() for one in record.programs],
    }
    write_whole(layout.auto_record(number), json.dumps(content).encode())


def _records() -> Iterator[tuple[int, Record]]:
    for path in files_in(layout.auto_records()):
        record = _parse(read_small(path, _LIMIT))
        if path.stem.isdecimal() and record:
            yield int(path.stem), record


def _parse(data: bytes | None) -> Record | None:
    """A record; None for anything that is none: the kernel is the truth, and a record only a comfort."""
    try:
        content = json.loads(data or b"")
        if content["schema"] != _SCHEMA:
            return None
        reference = ObjectRef(str(content["object"]["path"]), str(content["object"]["sha256"]))
        programs = tuple(
            Note(str(one["name"]), str(one["section"]), str(one["hook"]))
            for one in content["programs"]
        )
        return Record(reference, float(content["attached_at"]), programs)
    except (ValueError, TypeError, KeyError, RecursionError):
        return None
