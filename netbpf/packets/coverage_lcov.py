"""Tracefiles of lcov, which genhtml, CI servers and editors read (geninfo(1), "FILES")."""

import os
from collections.abc import Iterator
from pathlib import Path

from netbpf.errors import NetbpfError
from netbpf.packets.coverage_model import Coverage, FileCoverage
from netbpf.packets.coverage_source import found_at
from netbpf.text import escape


def write_lcov(path: str | os.PathLike[str], coverage: Coverage) -> None:
    """Write a tracefile. What has no source lines is not in it, nor are lines at which nobody looked.

    Raises NetbpfError where it cannot be written.
    """
    try:
        Path(path).write_text("".join(f"{line}\n" for line in lcov(coverage)))
    except OSError as error:
        what = escape(os.fspath(path))
        raise NetbpfError(f"cannot write {what}: {os.strerror(error.errno or 0)}") from None


def lcov(coverage: Coverage) -> Iterator[str]:
    """Its lines."""
    yield "TN:netbpf"
    for one in coverage.files:
        if one.unit == "line":
            yield from _file(one)


def _file(one: FileCoverage) -> Iterator[str]:
    where = found_at(one)
    yield f"SF:{os.path.realpath(where) if where else one.path}"
    for function in one.functions:
        yield f"FN:{function.line},{function.name}"
    for function in one.functions:
        yield f"FNDA:{function.count or 0},{function.name}"
    yield f"FNF:{len(one.functions)}"
    yield f"FNH:{sum(1 for function in one.functions if function.count)}"
    line, block = -1, 0
    for branch in one.branches:
        block = block + 1 if branch.line == line else 0
        line = branch.line
        for number, way in enumerate(branch.ways):
            # "-": the line was not reached at all, so nothing was decided there
            decided = any(branch.ways)
            yield f"BRDA:{line},{block},{number},{(way or 0) if decided else '-'}"
    if one.branches:
        yield f"BRF:{one.ways}"
        yield f"BRH:{one.ways_reached}"
    known = [(number, count) for number, count in one.lines.items() if count is not None]
    yield from (f"DA:{number},{count}" for number, count in known)
    yield f"LF:{len(known)}"
    yield f"LH:{sum(1 for _, count in known if count)}"
    yield "end_of_record"
