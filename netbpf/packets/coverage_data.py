"""Coverage as JSON: in the output of commands, in files to which one run after the other adds, between processes."""

import json
import os
from pathlib import Path
from typing import Any

from netbpf.errors import NetbpfError, ObjectError
from netbpf.packets.coverage_model import (
    Branch,
    BranchKey,
    Coverage,
    CoveredProgram,
    FileCoverage,
    Function,
)
from netbpf.text import escape

SCHEMA = "netbpf.coverage/1"


def to_json(coverage: Coverage) -> dict[str, Any]:
    """What ``from_json`` reads again."""
    return {
        "lines": coverage.lines,
        "reached": coverage.reached,
        "files": [_file(one) for one in coverage.files],
        "programs": [
            {
                "name": one.name,
                "object": one.object,
                "level": one.level,
                "note": one.note,
                "files": list(one.files),
            }
            for one in coverage.programs
        ],
    }


def _file(one: FileCoverage) -> dict[str, Any]:
    return {
        "path": one.path,
        "unit": one.unit,
        "lines": [
            {"line": number, "count": count, "text": one.text.get(number, "")}
            for number, count in one.lines.items()
        ],
        "branches": [
            {
                "line": b.line, "column": b.column, "program": b.program, "function": b.function, "code": b.key.code,
                "instruction": b.key.at, "taken": b.taken, "not_taken": b.not_taken,
            }
            for b in one.branches
        ],
        "functions": [{"name": f.name, "line": f.line, "count": f.count} for f in one.functions],
    }  # fmt: skip


def from_json(found: dict[str, Any]) -> Coverage:
    """The coverage again; KeyError, TypeError or ValueError for what is none."""
    return Coverage(
        tuple(_read_file(one) for one in found["files"]),
        tuple(
            CoveredProgram(
                str(one["name"]),
                str(one["object"]),
                str(one["level"]),
                str(one["note"]),
                tuple(map(str, one["files"])),
            )
            for one in found["programs"]
        ),
    )


def _count(found: object) -> int | None:
    if found is not None and (not isinstance(found, int) or found < 0):
        raise ValueError(f"{found!r} is no count")
    return found


def _read_file(one: dict[str, Any]) -> FileCoverage:
    return FileCoverage(
        str(one["path"]),
        {int(line["line"]): _count(line["count"]) for line in one["lines"]},
        tuple(
            Branch(
                BranchKey(str(b["code"]), int(b["instruction"])), str(b["program"]), str(b["function"]), int(b["line"]),
                int(b["column"]), _count(b["taken"]), _count(b["not_taken"]),
            )
            for b in one["branches"]
        ),
        tuple(Function(str(f["name"]), int(f["line"]), _count(f["count"])) for f in one["functions"]),
        {int(line["line"]): str(line["text"]) for line in one["lines"]},
        str(one["unit"]),
    )  # fmt: skip


def add_to_file(path: str | os.PathLike[str], coverage: Coverage) -> Coverage:
    """Add to what a file holds, or begin it; the sum. The file is replaced as a whole.

    Raises ObjectError for a file that is no coverage, NetbpfError where it cannot be written.
    """
    file = Path(path)
    shown = escape(os.fspath(path))
    try:
        if file.exists():
            coverage = coverage.merged([_parse(file.read_text(), shown)])
        written = file.with_name(f".{file.name}.{os.getpid()}")
        written.write_text(json.dumps({"schema": SCHEMA, **to_json(coverage)}) + "\n")
        written.replace(file)
    except OSError as error:
        raise NetbpfError(f"cannot write {shown}: {os.strerror(error.errno or 0)}") from None
    return coverage


def _parse(text: str, shown: str) -> Coverage:
    try:
        found = json.loads(text)
        if not isinstance(found, dict) or found.get("schema") != SCHEMA:
            raise ValueError("no schema")
        return from_json(found)
    except (KeyError, TypeError, ValueError):
        raise ObjectError(
            f"{shown} is no coverage that netbpf wrote", hint="name another file, or remove it"
        ) from None
