"""Instructions put before and behind others: every jump, call and record of functions and lines moves along."""

from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

from netbpf.bpf import insn as bpf
from netbpf.bpf.cover.flow import Unknown
from netbpf.bpf.cover.rewrite import GOTOL
from netbpf.bpf.disasm import branch_target
from netbpf.bpf.insn import Insn
from netbpf.bpf.linker import Image

_FAR: Final = 32767  # instructions: what the 16 bits of a jump reach


class Around(NamedTuple):
    """What goes before and behind an instruction. Who jumps to it meets what is before it, too."""

    before: Sequence[Insn]
    behind: Sequence[Insn] = ()


def insert(image: Image, places: Mapping[int, Around]) -> tuple[Image, dict[int, int]]:
    """The image with more instructions, and where each old one went.

    What is inserted neither jumps out of itself nor refers to functions; behind an instruction that jumps there can be
    nothing. Raises Unknown where a jump would have to reach farther than it can.
    """
    begins, moved, count = _places(image, places)
    code = bytearray(count * bpf.SIZE)
    for old, new in moved.items():
        one = bpf.read(image.insns, old)
        bpf.write(code, new, _led(one, old, new, begins))
        if one.code == bpf.LD_IMM64:
            bpf.write(code, new + 1, bpf.read(image.insns, old + 1))
        if around := places.get(old):
            for at, each in enumerate(around.before):
                bpf.write(code, begins[old] + at, each)
            for at, each in enumerate(around.behind):
                bpf.write(code, new + 1 + at, each)
    made = Image(
        code,
        [one._replace(at=begins[one.at]) for one in image.functions],
        [one._replace(at=moved[one.at]) for one in image.maps],
        [one._replace(at=moved[one.at]) for one in image.externs],
        [one._replace(at=begins[one.at]) for one in image.lines if one.at in begins],
        [(moved[at], relocation) for at, relocation in image.relocations],
    )
    return made, moved


def _places(
    image: Image, places: Mapping[int, Around]
) -> tuple[dict[int, int], dict[int, int], int]:
    """Where what belongs to each instruction begins, where it lies itself, and how many there are in all."""
    begins: dict[int, int] = {}
    moved: dict[int, int] = {}
    old = new = 0
    while old < len(image.insns) // bpf.SIZE:
        wide = 2 if bpf.read(image.insns, old).code == bpf.LD_IMM64 else 1
        around = places.get(old, Around(()))
        begins[old] = new
        moved[old] = new + len(around.before)
        new = moved[old] + wide + len(around.behind)
        old += wide
    return begins, moved, new


def _led(one: Insn, old: int, new: int, begins: Mapping[int, int]) -> Insn:
    """An instruction with the distance to where it leads now."""
    target = branch_target(old, one)
    calls = one.code == bpf.CALL and one.src == bpf.PSEUDO_CALL
    if calls or (one.code == bpf.LD_IMM64 and one.src == bpf.PSEUDO_FUNC):
        return one._replace(imm=_place(begins, old + one.imm + 1) - new - 1)
    if target is None:
        return one
    distance = _place(begins, target) - new - 1
    if one.code == GOTOL:
        return one._replace(imm=distance)
    if not -_FAR - 1 <= distance <= _FAR:
        raise Unknown(f"instruction {old} would have to jump {distance} instructions far")
    return one._replace(off=distance)


def _place(begins: Mapping[int, int], target: int) -> int:
    if target not in begins:
        raise Unknown(f"something leads to {target}, where no instruction begins")
    return begins[target]
