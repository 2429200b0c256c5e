"""What ``--coverage`` prints."""

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import groupby

import click

from netbpf.cli.output import Line, Table, say
from netbpf.packets.coverage_html import branch_words
from netbpf.packets.coverage_model import Coverage, FileCoverage
from netbpf.text import escape

_PARENT = ".."


def print_coverage(coverage: Coverage, *, verbose: bool = False) -> None:
    """A table of files, and what is not reached in them."""
    say(coverage_lines(coverage, verbose=verbose))


def print_notes(coverage: Coverage) -> None:
    """What is not as it was asked for, on standard error."""
    for note in coverage.notes:
        click.echo(f"netbpf: note: {note}", err=True)


def coverage_lines(coverage: Coverage, *, verbose: bool = False) -> Iterator[Line]:
    """The table, line by line."""
    if not coverage.files:
        yield Line("coverage: no program was run with probes", "bold")
        return
    numbers = ("lines", "share", "branches", "share ")
    made = Table("coverage", *numbers, "not reached", right=numbers)
    for one in coverage.files:
        made.add_row(
            f"  {escape(_shown(one))}", f"{one.reached}/{len(one.lines)}", _share(one.reached, len(one.lines)),
            f"{one.ways_reached}/{one.ways}", _share(one.ways_reached, one.ways), _missing(one),
        )  # fmt: skip
    if len(coverage.files) > 1:
        ways = sum(one.ways for one in coverage.files)
        gone = sum(one.ways_reached for one in coverage.files)
        made.add_row(
            "  total", f"{coverage.reached}/{coverage.lines}", _share(coverage.reached, coverage.lines),
            f"{gone}/{ways}", _share(gone, ways),
        )  # fmt: skip
    yield from made.lines()
    if verbose:
        for one in coverage.files:
            yield from _branches(one)


def _shown(one: FileCoverage) -> str:
    if one.unit != "line":
        return f"{one.path} (instructions)"
    if not one.path.startswith("/"):
        return one.path.removeprefix("./")
    near = os.path.relpath(one.path)
    return one.path if near.startswith(_PARENT) else near


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


def _branches(one: FileCoverage) -> Iterator[Line]:
    # What was not reached at all is in the table.
    lacking = [each for each in one.branches if any(each.ways) and not all(each.ways)]
    for place, group in groupby(lacking, key=lambda each: (each.line, each.column)):
        column = f":{place[1]}" if place[1] else ""
        for words, number in Counter(branch_words(each) for each in group).items():
            times = f" ({number} branches)" if number > 1 else ""
            yield Line(f"  {escape(_shown(one))}:{place[0]}{column}: {words}{times}", "dim")
