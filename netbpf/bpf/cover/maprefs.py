"""Which map a call of a helper gets, as far as the instructions say: a map's address is a constant in a register."""

from typing import Final

from netbpf.bpf import insn as bpf
from netbpf.bpf.cover.flow import Flow
from netbpf.bpf.cover.registers import effects
from netbpf.bpf.linker import Image

_REGISTERS: Final = 11
_Held = tuple[
    str, ...
]  # by register, the map whose address it holds; "" for none, or for one or another
_NOTHING: Final[_Held] = ("",) * _REGISTERS


def maps_of_calls(image: Image, flow: Flow) -> dict[int, _Held]:
    """By each call of a helper, the map that each register certainly holds there."""
    named = {one.at: one.map for one in image.maps if one.offset is None}
    before: list[_Held | None] = [None] * len(flow.blocks)
    after: list[_Held | None] = [None] * len(flow.blocks)
    found: dict[int, _Held] = {}
    changed = True
    while changed:
        changed = False
        for number, block in enumerate(flow.blocks):
            held = _meet(
                [_NOTHING if e.source < 0 else after[e.source]
                 for e in (flow.edges[n] for n in flow.entering[number])]
            )  # fmt: skip
            if held is None or (held == before[number] and after[number] is not None):
                continue
            before[number] = held
            now = _through(image, block.start, block.end, held, named, found)
            changed = changed or now != after[number]
            after[number] = now
    return found


def _meet(ways: list[_Held | None]) -> _Held | None:
    """What a register holds on every way that is known yet."""
    known = [one for one in ways if one is not None]
    if not known:
        return None
    return tuple(
        each[0] if all(one == each[0] for one in each) else "" for each in zip(*known, strict=True)
    )


def _through(
    image: Image, start: int, end: int, held: _Held, named: dict[int, str], found: dict[int, _Held]
) -> _Held:
    registers = list(held)
    at = start
    while at < end:
        one = bpf.read(image.insns, at)
        if one.code == bpf.CALL and one.src == 0:
            found[at] = tuple(registers)
        _, defines, clobbers = effects(one)
        new = named.get(at, "")
        if one.code == bpf.MOV64_REG and not one.off:
            new = registers[one.src]
        for number in range(_REGISTERS):
            if (defines | clobbers) >> number & 1:
                registers[number] = new if number == one.dst and one.code != bpf.CALL else ""
        at += 2 if one.code == bpf.LD_IMM64 else 1
    return tuple(registers)
