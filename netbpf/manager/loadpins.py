"""The pins of ``load``, and the records beside them.

A record is written, with everything that will be pinned, before the first pin is made, and once more when all are
there. So what a killed command leaves is known, and the next one takes it away.
"""

import errno
import hashlib
import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from netbpf import layout
from netbpf._sys import bpf as sys_bpf
from netbpf._sys.capabilities import Capability, permission_error
from netbpf._sys.grace import grace_period
from netbpf.bpf import pin
from netbpf.bpf.map import Map
from netbpf.bpf.program import Program
from netbpf.errors import KernelError, NetbpfError, NotAttachedError, ObjectError, UsageError
from netbpf.insight.choose import by_pin
from netbpf.model import ObjectRef
from netbpf.state.files import discard, files_in, read_small, write_whole
from netbpf.text import escape

_SCHEMA = "netbpf.loaded/1"
_LIMIT = 1 << 20  # bytes of a record
MAPS = "maps"  # the directory of the maps of a set, in that of its programs


@dataclass(frozen=True, slots=True)
class Pinned:
    """A program or map of a set. ``section`` is that of a program, "" for a map."""

    kind: str
    name: str
    id: int
    pin: Path
    section: str = ""


@dataclass(frozen=True, slots=True)
class LoadedSet:
    """What one ``load`` pinned. ``directories`` are those that it made; ``loaded_at`` is Unix time in seconds.

    ``uses`` are the names and ids of all maps of the programs, also of those that are pinned elsewhere.
    """

    directory: Path
    object: ObjectRef
    loaded_at: float
    pins: tuple[Pinned, ...]
    directories: tuple[Path, ...] = ()
    uses: tuple[tuple[str, int], ...] = ()
    complete: bool = True

    @property
    def name(self) -> str:
        """What ``unload`` calls it."""
        return self.directory.name

    @property
    def programs(self) -> tuple[Pinned, ...]:
        """The programs, in the order of the object."""
        return tuple(one for one in self.pins if one.kind == "program")

    @property
    def maps(self) -> tuple[Pinned, ...]:
        """The maps that were pinned."""
        return tuple(one for one in self.pins if one.kind == "map")

    @property
    def key(self) -> str:
        """The name of its record: there is one set to a directory."""
        return hashlib.sha256(os.fsencode(self.directory)).hexdigest()[:24]


# --- making ---


def missing_directories(directory: Path) -> tuple[Path, ...]:
    """The directories that have to be made for pins in one, outermost first; UsageError where no bpffs takes them."""
    shown = escape(str(directory))
    # A bpffs answers EPERM for a name with a dot, so not Path.exists.
    there = next(one for one in (directory, *directory.parents) if os.path.exists(one))  # noqa: PTH110
    if not pin.is_bpffs(there):
        raise UsageError(
            f"{shown} is in no BPF file system",
            hint="mount one: mount -t bpf bpf /sys/fs/bpf; then for example --pin /sys/fs/bpf/NAME",
        )
    parts = directory.relative_to(there).parts
    if any("." in part for part in parts):
        raise UsageError(f"{shown}: a BPF file system takes no names with a dot")
    if not there.is_dir():
        raise UsageError(f"{escape(str(there))} is no directory")
    return tuple(there.joinpath(*parts[: number + 1]) for number in range(len(parts)))


@contextmanager
def made(one: LoadedSet, data: bytes, fds: dict[Path, int]) -> Iterator[None]:
    """Pin a set, with the lock held; if the block, or a step, ends with an exception, nothing of it stays.

    ``data`` is the object, which is kept beside the record; ``fds`` are the descriptors to pin. NetbpfError where a
    name is taken.
    """
    done: list[Path] = []
    directories: list[Path] = []
    write_whole(layout.loaded_object(one.key), data)
    _write(replace(one, complete=False))
    try:
        for directory in one.directories:
            _mkdir(directory)
            directories.append(directory)
        for each in one.pins:
            _pin(each.pin, fds[each.pin])
            done.append(each.pin)
        yield
        _write(one)
    except BaseException:
        for path in reversed(done):
            with suppress(OSError):
                path.unlink()
        for directory in reversed(directories):
            with suppress(OSError):
                directory.rmdir()
        forget(one)
        raise


def _mkdir(directory: Path) -> None:
    try:
        directory.mkdir(mode=0o700)
    except FileExistsError:
        raise NetbpfError(f"{escape(str(directory))} exists already") from None
    except OSError as error:
        raise NetbpfError(f"cannot create {escape(str(directory))}: {error.strerror}") from None


def _pin(path: Path, fd: int) -> None:
    shown = escape(str(path))
    try:
        sys_bpf.obj_pin(str(path), fd)
    except KernelError as error:
        if error.errno == errno.EEXIST:
            raise NetbpfError(
                f"the pin {shown} exists already", hint="choose another directory: --pin DIR"
            ) from None
        if error.errno in (errno.EPERM, errno.EACCES):
            raise permission_error(f"pin {shown}", Capability.BPF) from None
        raise


def forget(one: LoadedSet) -> None:
    """Remove the record and the kept object."""
    discard(layout.loaded_record(one.key))
    discard(layout.loaded_object(one.key))


# --- what is there ---


def sets() -> list[LoadedSet]:
    """Everything that ``load`` pinned and of which something is still pinned, by name."""
    known = list(_records())
    found = [one for one in known if one.complete and any(holds(each) for each in one.pins)]
    places = {one.directory for one in known}
    found += [one for one in _unrecorded() if one.directory not in places]
    return sorted(found, key=lambda one: (one.name, one.directory))


def _unrecorded() -> Iterator[LoadedSet]:
    """What is in netbpf's own directory, where the records were lost."""
    for root in pin.existing_bpffs():
        for directory in pin.listed(layout.loaded_pins(root)):
            places = [(directory, "program"), (directory / MAPS, "map")]
            paths = [(path, kind) for place, kind in places for path in _names(place)]
            pins = [Pinned(kind, path.name, _id_at(path, kind), path) for path, kind in paths]
            if found := tuple(one for one in pins if one.id):
                made = (directory, directory / MAPS)
                yield LoadedSet(
                    directory, ObjectRef("", ""), directory.lstat().st_mtime, found, made
                )


def _names(directory: Path) -> list[Path]:
    try:
        paths = (directory / name for name in sorted(os.listdir(directory)))
        return [path for path in paths if not path.is_symlink()]
    except OSError:
        return []


def holds(one: Pinned) -> bool:
    """Whether a pin still holds what ``load`` put there. Raises PermissionDeniedError."""
    return not one.pin.is_symlink() and _id_at(one.pin, one.kind) == one.id


def _id_at(path: Path, kind: str) -> int:
    """What a pin holds; 0 for what is gone, or something of another kind."""
    try:
        fd = by_pin(path, kind)
    except (NotAttachedError, ObjectError):
        return 0
    with Program(fd) if kind == "program" else Map(fd) as opened:
        return opened.info.id


def kept_object(one: LoadedSet) -> Path:
    """The copy of the object that a set was loaded from."""
    return layout.loaded_object(one.key)


# --- taking away ---


def remove(one: LoadedSet) -> tuple[Path, ...]:
    """Remove the pins of a set, and the directories that it made; pins that hold something else by now stay.

    These are returned.
    """
    foreign = []
    for kind in ("program", "map"):
        mine = [each for each in one.pins if each.kind == kind]
        if kind == "map" and mine:
            # Packets that are in the programs still have tail calls before them.
            grace_period()
        for each in mine:
            if holds(each):
                _unlink(each.pin)
            elif each.pin.is_symlink() or os.path.lexists(each.pin):
                foreign.append(each.pin)
    for directory in reversed(one.directories):
        with suppress(OSError):  # somebody put something there
            directory.rmdir()
    forget(one)
    return tuple(foreign)


def _unlink(path: Path) -> None:
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        raise NetbpfError(f"cannot remove the pin {escape(str(path))}: {error.strerror}") from None


def sweep() -> None:
    """Take away what killed commands left, and records of which no pin is left; with the lock held."""
    for one in _records():
        if not one.complete:
            remove(one)
        elif not any(os.path.lexists(each.pin) for each in one.pins):
            for directory in reversed(one.directories):
                with suppress(OSError):
                    directory.rmdir()
            forget(one)


# --- records ---


def _write(one: LoadedSet) -> None:
    content: dict[str, Any] = {
        "schema": _SCHEMA,
        "directory": os.fspath(one.directory),
        "object": {"path": one.object.path, "sha256": one.object.sha256},
        "loaded_at": one.loaded_at,
        "complete": one.complete,
        "directories": [os.fspath(each) for each in one.directories],
        "uses": one.uses,
        "pins": [
            {"kind": e.kind, "name": e.name, "id": e.id, "pin": os.fspath(e.pin), "section": e.section}
            for e in one.pins
        ],
    }  # fmt: skip
    write_whole(layout.loaded_record(one.key), json.dumps(content).encode())


def _records() -> Iterator[LoadedSet]:
    for path in files_in(layout.loaded_records()):
        if path.suffix == ".json" and (one := _parse(read_small(path, _LIMIT))):
            yield one


def _parse(data: bytes | None) -> LoadedSet | None:
    """A record; None for anything that is none."""
    try:
        content = json.loads(data or b"")
        if content["schema"] != _SCHEMA:
            return None
        pins = tuple(
            Pinned(
                str(e["kind"]), str(e["name"]), int(e["id"]), Path(e["pin"]), str(e["section"])
            )
            for e in content["pins"]
        )  # fmt: skip
        return LoadedSet(
            Path(content["directory"]),
            ObjectRef(str(content["object"]["path"]), str(content["object"]["sha256"])),
            float(content["loaded_at"]),
            pins,
            tuple(map(Path, content["directories"])),
            tuple((str(name), int(number)) for name, number in content["uses"]),
            bool(content["complete"]),
        )
    except (ValueError, TypeError, KeyError, RecursionError):
        return None


def now() -> float:
    """Unix time in seconds."""
    return time.time()
