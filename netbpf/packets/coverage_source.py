"""The text of source files, where it is still what was compiled."""

from collections.abc import Mapping
from pathlib import Path

from netbpf.packets.coverage_model import FileCoverage

_PACKAGE = Path(__file__).parents[1]
_MOST = 16 << 20  # bytes of a source file


def found_at(one: FileCoverage) -> Path | None:
    """Where a source file is: as the compiler called it, seen from here, or among netbpf's own sources.

    None where it is not, or where its lines are not those that were compiled.
    """
    if one.unit != "line":
        return None
    for path in (
        Path(one.path),
        _PACKAGE / "_sources" / one.path,
        _PACKAGE.parent / one.path,
    ):
        lines = _read(path)
        if lines is not None and _same(lines, one.text):
            return path
    return None


def source_lines(one: FileCoverage) -> Mapping[int, str]:
    """Its lines by number: all of them where the file is found, else those with code, which the object holds."""
    path = found_at(one)
    lines = _read(path) if path else None
    return one.text if lines is None else dict(enumerate(lines, 1))


def _read(path: Path) -> list[str] | None:
    try:
        if not path.is_file() or path.stat().st_size > _MOST:
            return None
        return path.read_text(errors="replace").splitlines()
    except (OSError, ValueError):
        return None


def _same(lines: list[str], compiled: Mapping[int, str]) -> bool:
    return all(
        number <= len(lines) and (not text or lines[number - 1].strip() == text.strip())
        for number, text in compiled.items()
    )
