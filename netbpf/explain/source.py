"""The line of C behind an instruction, with its neighbours."""

import os
import stat
from bisect import bisect_right
from pathlib import Path

from netbpf.explain.log import Log, Step
from netbpf.explain.model import CodeLine, Excerpt, Place, RejectedCode

BEFORE, AFTER = 3, 2  # neighbours that are shown
_LARGEST = 8 << 20  # bytes of a source that is worth reading


def place_of(code: RejectedCode, index: int, step: Step | None = None) -> Place | None:
    """The source line of an instruction: from the object's types, else from what the log wrote above it."""
    at = bisect_right(code.lines, index, key=_at)
    start = _start(code, index)
    # Line 0 is code of no line in particular, such as what the compiler moved: the line before it is meant.
    for line in reversed(code.lines[:at]):
        if line.at < start:
            break
        if line.line:
            return Place(line.file, line.line, line.text.strip("\n"))
    if step and step.source:
        file, number, text = step.source
        return Place(file, number, text)
    return None


def _at(line: CodeLine) -> int:
    return line.at


def _start(code: RejectedCode, index: int) -> int:
    return max((at for at, _ in code.functions if at <= index), default=0)


def function_of(code: RejectedCode, index: int) -> str:
    """The function that holds an instruction."""
    return max(
        ((at, name) for at, name in code.functions if at <= index), default=(0, code.program)
    )[1]


def excerpt(code: RejectedCode, log: Log, index: int) -> Excerpt | None:
    """The line of an instruction and its neighbours, from the file if it still is the one that was compiled."""
    place = place_of(code, index, log.find(index))
    if place is None:
        return None
    around = _from_file(place) or _from_types(code, place)
    return Excerpt(place, function_of(code, index), around)


def _from_file(place: Place) -> tuple[tuple[int, str], ...]:
    if not place.line:
        return ()
    lines = _read(place.file)
    # Another text at that line means another version of the file: its neighbours would mislead.
    if len(lines) < place.line or lines[place.line - 1].strip() != place.text.strip():
        return ()
    first = max(place.line - BEFORE, 1)
    return tuple(enumerate(lines[first - 1 : place.line + AFTER], first))


def _read(name: str) -> list[str]:
    try:
        # The object says which path: it may be a FIFO or a device, which must not be waited for.
        fd = os.open(name, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)
    except (OSError, ValueError):
        return []
    try:
        about = os.fstat(fd)
        if not stat.S_ISREG(about.st_mode) or about.st_size > _LARGEST:
            return []
        # A file of /proc says 0 bytes, and one that shrinks gives less.
        return os.read(fd, about.st_size).decode(errors="replace").split("\n")
    except OSError:
        return []
    finally:
        os.close(fd)


def _from_types(code: RejectedCode, place: Place) -> tuple[tuple[int, str], ...]:
    """The neighbours that made code: all that the object knows of its source."""
    known = {
        line.line: line.text.strip("\n")
        for line in code.lines
        if line.file == place.file and line.line and abs(line.line - place.line) <= BEFORE
    }
    known[place.line] = place.text
    return tuple(sorted((n, t) for n, t in known.items() if n <= place.line + AFTER))


def short(file: str) -> str:
    """A file as people know it: without directories."""
    return Path(file).name
