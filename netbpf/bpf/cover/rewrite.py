"""Laying probes into a program: every jump, call and record of its functions and lines moves along.

A probe on a branch that is not taken lies behind it, one on a branch that is taken where it leads to, if nothing else
leads there; otherwise behind the function's end, or, where a jump of 16 bits does not reach that far, right behind the
branch, which then jumps over an unconditional jump.
"""

from bisect import bisect_right
from collections.abc import Sequence
from typing import Final, NamedTuple

from netbpf.bpf import insn as bpf
from netbpf.bpf.cover.flow import Block, Flow, Kind, Unknown
from netbpf.bpf.cover.plan import Probe
from netbpf.bpf.disasm import branch_target, falls_through
from netbpf.bpf.insn import Insn
from netbpf.bpf.linker import Image, Line

JA, GOTOL = 0x05, 0x06
_FAR: Final = 32767

# What a jump leads to: ("block", n), ("tramp", edge), ("over", n), ("function", n)
Label = tuple[str, int]


class _Op(NamedTuple):
    insn: Insn
    to: Label | None = None
    old: int = -1  # the instruction that it was
    fd: bool = False


class Laid(NamedTuple):
    """A program with its probes. ``moved`` says where each instruction went; ``fds`` load the array's address."""

    code: bytearray
    functions: tuple[int, ...]
    moved: dict[int, int]
    fds: tuple[int, ...]
    apart: tuple[
        tuple[int, int], ...
    ]  # (where code of a branch begins, that branch's old instruction)


def lay(code: bytes | bytearray, flow: Flow, probes: Sequence[Probe]) -> Laid:
    """Put probes into code. Raises Unknown for calls into the middle of a function."""
    return _Layer(code, flow, probes).run()


class _Layer:
    def __init__(self, code: bytes | bytearray, flow: Flow, probes: Sequence[Probe]) -> None:
        self.code, self.flow = code, flow
        self.by_edge = {one.edge: one for one in probes}
        self.near: set[int] = set()
        self.taken = {e.at: n for n, e in enumerate(flow.edges) if e.kind is Kind.TAKEN}
        self.falling = {
            e.target: n for n, e in enumerate(flow.edges) if e.kind in (Kind.NOT_TAKEN, Kind.ON)
        }
        self.entry = {e.target: n for n, e in enumerate(flow.edges) if e.kind is Kind.ENTRY}
        self.at = {one.start: number for number, one in enumerate(flow.blocks)}
        self.number_of = {first: number for number, first in enumerate(flow.functions)}

    def run(self) -> Laid:
        while True:
            ops, labels, apart = self._ops()
            far = self._resolve(ops, labels)
            if not far:
                break
            self.near |= far
        code = bytearray()
        moved: dict[int, int] = {}
        fds = []
        for index, one in enumerate(ops):
            code += one.insn.pack()
            if one.old >= 0:
                moved[one.old] = index
            if one.fd:
                fds.append(index)
        functions = tuple(labels["function", n] for n in range(len(self.flow.functions)))
        return Laid(code, functions, moved, tuple(fds), tuple(apart))

    # --- laying out ---

    def _ops(self) -> tuple[list[_Op], dict[Label, int], list[tuple[int, int]]]:
        ops: list[_Op] = []
        labels: dict[Label, int] = {}
        apart: list[tuple[int, int]] = []
        waiting: list[int] = []  # edges whose probe goes behind the function's end
        flow = self.flow

        def probe(edge: int | None) -> None:
            if edge is not None and (made := self.by_edge.get(edge)):
                for index, one in enumerate(made.code()):
                    ops.append(_Op(one, fd=index == made.fd_at))

        for number, block in enumerate(flow.blocks):
            if block.start in self.number_of:
                labels["function", self.number_of[block.start]] = len(ops)
                probe(self.entry[number])
            probe(self.falling.get(number))
            labels["block", number] = len(ops)
            probe(self._alone(number))
            self._block(block, ops, labels, apart, waiting)
            last = number + 1 == len(flow.blocks)
            if last or flow.blocks[number + 1].function != block.function:
                for edge in waiting:
                    apart.append((len(ops), flow.edges[edge].at))
                    labels["tramp", edge] = len(ops)
                    probe(edge)
                    ops.append(_Op(Insn(JA), ("block", flow.edges[edge].target)))
                waiting.clear()
        return ops, labels, apart

    def _alone(self, number: int) -> int | None:
        """The branch that leads to a block, if it is taken and nothing else leads there."""
        entering = self.flow.entering[number]
        if len(entering) == 1 and self.flow.edges[entering[0]].kind is Kind.TAKEN:
            return entering[0]
        return None

    def _block(
        self,
        block: Block,
        ops: list[_Op],
        labels: dict[Label, int],
        apart: list[tuple[int, int]],
        waiting: list[int],
    ) -> None:
        index = block.start
        while index < block.end:
            one = bpf.read(self.code, index)
            if one.code == bpf.LD_IMM64:
                ops.append(_Op(one, self._function(index, one, bpf.PSEUDO_FUNC), index))
                ops.append(_Op(bpf.read(self.code, index + 1)))
                index += 2
                continue
            target = branch_target(index, one)
            if target is None:
                to = None
                if one.code == bpf.CALL:
                    to = self._function(index, one, bpf.PSEUDO_CALL)
                ops.append(_Op(one, to, index))
            elif not falls_through(one):
                ops.append(_Op(one, ("block", self.at[target]), index))
            else:
                self._branch(index, one, ops, labels, apart, waiting)
            index += 1

    def _branch(
        self,
        index: int,
        one: Insn,
        ops: list[_Op],
        labels: dict[Label, int],
        apart: list[tuple[int, int]],
        waiting: list[int],
    ) -> None:
        edge = self.taken[index]
        target = self.flow.edges[edge].target
        elsewhere = edge in self.by_edge and self._alone(target) != edge
        if index in self.near:
            labels["tramp", edge] = len(ops) + 2
            ops.append(_Op(one, ("tramp", edge), index))
            ops.append(_Op(Insn(JA), ("over", index)))
            if elsewhere:
                for at, each in enumerate(self.by_edge[edge].code()):
                    ops.append(_Op(each, fd=at == self.by_edge[edge].fd_at))
            ops.append(_Op(Insn(JA), ("block", target)))
            labels["over", index] = len(ops)
        elif elsewhere:
            ops.append(_Op(one, ("tramp", edge), index))
            waiting.append(edge)
        else:
            ops.append(_Op(one, ("block", target), index))

    def _function(self, index: int, one: Insn, pseudo: int) -> Label | None:
        """The function that an instruction calls, or takes the address of."""
        if one.src != pseudo:
            return None
        number = self.number_of.get(index + one.imm + 1)
        if number is None:
            raise Unknown(f"instruction {index} refers to no function")
        return "function", number

    # --- distances ---

    def _resolve(self, ops: list[_Op], labels: dict[Label, int]) -> set[int]:
        """Write the distances; the branches that do not reach as far as they would have to."""
        far: set[int] = set()
        for index, op in enumerate(ops):
            if op.to is None:
                continue
            one, distance = op.insn, labels[op.to] - index - 1
            if op.to[0] == "function" or one.code == GOTOL:
                ops[index] = op._replace(insn=one._replace(imm=distance))
            elif -_FAR - 1 <= distance <= _FAR:
                ops[index] = op._replace(insn=one._replace(off=distance))
            elif one.code == JA:
                # gotol, cpu v4, Linux 6.6
                ops[index] = op._replace(insn=Insn(GOTOL, imm=distance))
            else:
                far.add(op.old)
        return far


def moved_image(image: Image, laid: Laid, fd: int) -> Image:
    """The image with probes that write to the array ``fd``; what ``image`` refers to is taken from it as it is now.

    ``laid`` may be of another image of the same code, with other descriptors in it.
    """
    code = bytearray(laid.code)
    for at in laid.fds:
        bpf.set_imm(code, at, fd)
    for map_ref in image.maps:
        new = laid.moved[map_ref.at]
        at = map_ref.at * bpf.SIZE
        code[new * bpf.SIZE : (new + 2) * bpf.SIZE] = image.insns[at : at + 2 * bpf.SIZE]
    order = sorted(range(len(image.functions)), key=lambda n: image.functions[n].at)
    places = {number: laid.functions[position] for position, number in enumerate(order)}
    starts = {one.at: places[number] for number, one in enumerate(image.functions)}
    return Image(
        code,
        [one._replace(at=places[number]) for number, one in enumerate(image.functions)],
        [one._replace(at=laid.moved[one.at]) for one in image.maps],
        [one._replace(at=laid.moved[one.at]) for one in image.externs],
        _lines(image, laid, starts),
        [(laid.moved[at], relo) for at, relo in image.relocations],
    )


def _lines(image: Image, laid: Laid, starts: dict[int, int]) -> list[Line]:
    """The kernel wants a function's first instruction to have a line, and that is a probe now."""
    known = sorted(one for one in image.lines if one.at in laid.moved)
    found = {
        new: one._replace(at=new)
        for one in known
        for new in [starts.get(one.at, laid.moved[one.at])]
    }
    positions = [one.at for one in known]
    for new, old in laid.apart:
        index = bisect_right(positions, old) - 1
        if index >= 0:
            found[new] = known[index]._replace(at=new)
    return sorted(found.values())
