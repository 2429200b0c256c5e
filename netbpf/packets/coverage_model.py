"""What was reached of programs: by source file, line and branch, whoever ran them and how often."""

import os
import posixpath
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

# How often; None where nobody looked.
Count = int | None


def plus(one: Count, other: Count) -> Count:
    """Two counts of the same: what was reached was reached, what nobody watched may have been."""
    if one is None or other is None:
        return (one or other) or None
    return one + other


class BranchKey(NamedTuple):
    """A conditional jump: of which code (a digest of the instructions), and at which of them."""

    code: str
    at: int


@dataclass(frozen=True, slots=True)
class Branch:
    """One conditional jump of a program, and how often control went each way.

    A line of which the compiler made several copies has a branch in each of them.
    """

    key: BranchKey
    program: str
    function: str
    line: int
    column: int
    taken: Count
    not_taken: Count

    @property
    def ways(self) -> tuple[Count, Count]:
        """Both ways."""
        return self.taken, self.not_taken


@dataclass(frozen=True, slots=True)
class Function:
    """A function of BPF, which is what the compiler did not inline; where it begins, and how often it was entered."""

    name: str
    line: int
    count: Count


@dataclass(frozen=True, slots=True)
class FileCoverage:
    """One source file, as the compiler called it: how often each line with code ran.

    Where an object has no lines, ``unit`` is "instruction": then ``path`` names the program, a line is an instruction,
    and ``text`` its words. Otherwise ``text`` has the lines that the object holds, which are those with code.
    """

    path: str
    lines: Mapping[int, Count]
    branches: tuple[Branch, ...] = ()
    functions: tuple[Function, ...] = ()
    text: Mapping[int, str] = field(default_factory=dict)
    unit: str = "line"

    @property
    def reached(self) -> int:
        """Lines that ran."""
        return sum(1 for one in self.lines.values() if one)

    @property
    def unmeasured(self) -> int:
        """Lines at which nobody looked."""
        return sum(1 for one in self.lines.values() if one is None)

    @property
    def missing(self) -> list[int]:
        """Lines that did not run."""
        return sorted(number for number, one in self.lines.items() if one == 0)

    @property
    def ways(self) -> int:
        """Ways out of branches, two of each."""
        return 2 * len(self.branches)

    @property
    def ways_reached(self) -> int:
        """Those that were gone."""
        return sum(1 for one in self.branches for way in one.ways if way)


@dataclass(frozen=True, slots=True)
class CoveredProgram:
    """A program that was run with probes, and its source files.

    ``level`` is what was counted of it, ``note`` why that is not all.
    """

    name: str
    object: str
    level: str
    note: str = ""
    files: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Idle:
    """A program that was loaded and never ran."""

    program: CoveredProgram
    files: tuple[FileCoverage, ...]

    @property
    def names(self) -> tuple[str, str]:
        """What makes it another build of the same program: its name and where its first function is."""
        return names_of(self.program)


def names_of(program: CoveredProgram) -> tuple[str, str]:
    """A program's name and the source file that it begins in, whoever compiled it."""
    return program.name, program.files[0] if program.files else program.object


@dataclass(frozen=True, slots=True)
class Coverage:
    """All of it. ``share`` and ``branch_share`` are from 0 to 1; what nobody measured counts as not reached.

    ``idle`` are programs that never ran, until it is ``settled``.
    """

    files: tuple[FileCoverage, ...] = ()
    programs: tuple[CoveredProgram, ...] = ()
    idle: tuple[Idle, ...] = ()

    @property
    def lines(self) -> int:
        """Lines with code."""
        return sum(len(one.lines) for one in self.files)

    @property
    def reached(self) -> int:
        """Lines that ran."""
        return sum(one.reached for one in self.files)

    @property
    def share(self) -> float:
        """Of the lines, those that ran."""
        return self.reached / self.lines if self.lines else 0.0

    @property
    def branch_share(self) -> float:
        """Of the ways out of branches, those that were gone."""
        ways = sum(one.ways for one in self.files)
        return sum(one.ways_reached for one in self.files) / ways if ways else 0.0

    @property
    def notes(self) -> tuple[str, ...]:
        """What is not as it was asked for, in sentences."""
        return tuple(dict.fromkeys(one.note for one in self.programs if one.note))

    def table(self, *, verbose: bool = False) -> str:
        """What ``--coverage`` shows; with ``verbose`` also the branches that went only one way."""
        from netbpf.packets.coverage_table import coverage_lines

        return "\n".join(coverage_lines(self, verbose=verbose))

    def write_html(self, directory: "str | os.PathLike[str]") -> None:
        """Write the sources with counts as pages into a directory. Raises NetbpfError."""
        from netbpf.packets.coverage_html import write_html

        write_html(directory, self)

    def write_lcov(self, path: "str | os.PathLike[str]") -> None:
        """Write a tracefile of lcov. Raises NetbpfError."""
        from netbpf.packets.coverage_lcov import write_lcov

        write_lcov(path, self)

    def merged(self, others: "Sequence[Coverage]") -> "Coverage":
        """This and others: counts are added, and what was reached anywhere is reached."""
        files = {one.path: one for one in self.files}
        programs = dict.fromkeys(self.programs)
        for other in others:
            programs.update(dict.fromkeys(other.programs))
            for one in other.files:
                files[one.path] = _both(files[one.path], one) if one.path in files else one
        idle = [*self.idle, *(each for other in others for each in other.idle)]
        # The same program may have been loaded in several processes.
        once = {one.program: one for one in idle}
        return Coverage(
            tuple(files[path] for path in sorted(files)), tuple(programs), tuple(once.values())
        )

    def settled(self) -> "Coverage":
        """With the programs that never ran: those of which no other build did, another compiler's for instance."""
        ran = {names_of(one) for one in self.programs}
        left = [Coverage(one.files, (one.program,)) for one in self.idle if one.names not in ran]
        return Coverage(self.files, self.programs).merged(left)

    def within(self, prefixes: Iterable[str]) -> "Coverage":
        """Only the files below these directories, or with these names; relative ones are seen from here."""
        wanted = tuple(posixpath.abspath(one) for one in prefixes)

        def kept(path: str) -> bool:
            whole = posixpath.abspath(path)
            return any(whole == one or whole.startswith(one + "/") for one in wanted)

        return Coverage(
            tuple(one for one in self.files if kept(one.path)),
            tuple(one for one in self.programs if any(kept(path) for path in one.files)),
        )


def _both(one: FileCoverage, other: FileCoverage) -> FileCoverage:
    lines = dict(one.lines)
    for number, count in other.lines.items():
        lines[number] = plus(lines[number], count) if number in lines else count
    return FileCoverage(
        one.path,
        dict(sorted(lines.items())),
        merge_branches([*one.branches, *other.branches]),
        merge_functions([*one.functions, *other.functions]),
        {**other.text, **one.text},
        one.unit,
    )


def merge_branches(branches: Iterable[Branch]) -> tuple[Branch, ...]:
    """Each jump of each code once, in the order of lines."""
    found: dict[BranchKey, Branch] = {}
    for one in branches:
        before = found.get(one.key)
        if before:
            taken = plus(before.taken, one.taken)
            not_taken = plus(before.not_taken, one.not_taken)
            one = Branch(one.key, one.program, one.function, one.line, one.column, taken, not_taken)
        found[one.key] = one
    return tuple(sorted(found.values(), key=lambda b: (b.line, b.column, b.program, b.key)))


def merge_functions(functions: Iterable[Function]) -> tuple[Function, ...]:
    """Each function once, by its name and line."""
    found: dict[tuple[int, str], Function] = {}
    for one in functions:
        before = found.get((one.line, one.name))
        count = plus(before.count, one.count) if before else one.count
        found[one.line, one.name] = Function(one.name, one.line, count)
    return tuple(found[key] for key in sorted(found))
