"""Coverage as a table for people: files, shares, and the lines that were not reached."""

from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import groupby

from netbpf.packets.coverage_html import branch_words
from netbpf.packets.coverage_model import Coverage, FileCoverage
from netbpf.text import escape

_HEAD = ("coverage", "lines", "share", "branches", "share", "not reached")
_RIGHT = range(1, 5)  # columns of numbers


def coverage_lines(coverage: Coverage, *, verbose: bool = False) -> Iterator[str]:
    """The table, line by line; with ``verbose`` the branches that went only one way, too."""
    if not coverage.files:
        yield "coverage: no program was run with probes"
        return
    rows: list[tuple[str, ...]] = [_HEAD]
    rows += [_row(_shown(one), [one], _missing(one)) for one in coverage.files]
    if len(coverage.files) > 1:
        rows.append(_row("total", coverage.files, ""))
    widths = [max(len(row[at]) for row in rows) for at in range(len(_HEAD))]
    for row in rows:
        cells = [
            cell.rjust(width) if at in _RIGHT else cell.ljust(width)
            for at, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        yield "  ".join(cells).rstrip()
    if verbose:
        for one in coverage.files:
            yield from _branches(one)


def _row(name: str, files: Sequence[FileCoverage], missing: str) -> tuple[str, ...]:
    lines, reached = sum(len(one.lines) for one in files), sum(one.reached for one in files)
    ways, gone = sum(one.ways for one in files), sum(one.ways_reached for one in files)
    name = f"  {escape(name)}"
    return (
        name,
        f"{reached}/{lines}",
        _share(reached, lines),
        f"{gone}/{ways}",
        _share(gone, ways),
        missing,
    )


def _shown(one: FileCoverage) -> str:
    return one.path if one.unit == "line" else f"{one.path} (instructions)"


def _share(part: int, whole: int) -> str:
    return f"{100 * part / whole:.1f} %" if whole else "-"


def _missing(one: FileCoverage) -> str:
    words = spans(one.missing, [number for number, count in one.lines.items() if count])
    if one.unmeasured:
        said = f"{one.unmeasured} not measured"
        return f"{words}; {said}" if words else said
    return words


def spans(missing: Sequence[int], reached: Sequence[int]) -> str:
    """``3-7, 12``: lines without code between two that were not reached belong to them."""
    there = sorted([(number, False) for number in missing] + [(number, True) for number in reached])
    found: list[list[int]] = []
    before = True
    for number, ran in there:
        if not ran:
            if before:
                found.append([number, number])
            else:
                found[-1][1] = number
        before = ran
    return ", ".join(str(a) if a == b else f"{a}-{b}" for a, b in found)


def _branches(one: FileCoverage) -> Iterator[str]:
    # What was not reached at all is in the table.
    lacking = [each for each in one.branches if any(each.ways) and not all(each.ways)]
    for place, group in groupby(lacking, key=lambda each: (each.line, each.column)):
        column = f":{place[1]}" if place[1] else ""
        for words, number in Counter(branch_words(each) for each in group).items():
            times = f" ({number} branches)" if number > 1 else ""
            yield f"  {escape(_shown(one))}:{place[0]}{column}: {words}{times}"
