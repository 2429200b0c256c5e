"""What a plan leaves to be done: maps to make, and what to put into them."""

from dataclasses import dataclass

from netbpf.bpf.map import Map
from netbpf.bpf.mapdefs import MapSpec
from netbpf.carry.ops import Op


@dataclass(frozen=True, slots=True)
class Source:
    """A live section of variables, by its name, and the parts of it that move. ``flags`` are those to read it with."""

    name: str
    live: Map
    ops: tuple[Op, ...]
    flags: int = 0


@dataclass(frozen=True, slots=True)
class SectionStep:
    """A section of variables to make anew as ``spec`` says, and to fill from sections that are there."""

    name: str
    spec: MapSpec
    sources: tuple[Source, ...]


@dataclass(frozen=True, slots=True)
class EntriesStep:
    """A map to make anew as ``spec`` says, whose entries come from the live one.

    ``kept`` has a mask for each byte of a new value: the bits that come from the old one. Padding does not.
    """

    name: str
    spec: MapSpec
    live: Map
    ops: tuple[Op, ...]
    kept: bytes


Step = SectionStep | EntriesStep
