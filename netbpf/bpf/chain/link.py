"""Linking members into one program: dispatcher first, then the functions of members that are called."""

import zlib
from array import array
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from netbpf._sys import bpf as sys_bpf
from netbpf.bpf import insn as bpf
from netbpf.bpf.chain.dispatcher import Onward, Step, Taps, assemble
from netbpf.bpf.chain.inline import inlined
from netbpf.bpf.chain.part import Part
from netbpf.bpf.chain.types import MemberTypes, Types, records
from netbpf.bpf.chain.verdicts import layout
from netbpf.bpf.linker import Placed
from netbpf.bpf.tap import code as tapping
from netbpf.constants import (
    CHAIN_NAME,
    AttachType,
    Hook,
    ProgFlag,
    ProgType,
    TcAction,
    XdpAction,
)
from netbpf.errors import ObjectError

_TYPE_ID_LOCAL = 6  # BPF_CORE_TYPE_ID_LOCAL (include/uapi/linux/bpf.h)
# license_is_gpl_compatible() of include/linux/license.h.
GPL_COMPATIBLE = frozenset(
    {"GPL", "GPL v2", "GPL and additional rights", "Dual BSD/GPL", "Dual MIT/GPL", "Dual MPL/GPL"}
)


@dataclass(frozen=True, slots=True)
class Linked:
    """The request to load, without its BTF descriptor, and the chain's types.

    ``starts`` says where code of which member begins, in order of the instructions: (instruction, position); the
    position is -1 for the dispatcher's own.
    """

    request: sys_bpf.ProgLoad
    btf: bytes
    starts: tuple[tuple[int, int], ...]


def license_of(parts: Sequence[Part]) -> str:
    """The license of a chain: GPL-compatible only where every member's is.

    The kernel asks a program's license before it lets it call what is for GPL programs only. A chain is one program;
    said to be GPL, it would open those functions to members whose authors did not put them under the GPL.
    """
    return next(
        (one.spec.license for one in parts if one.spec.license not in GPL_COMPATIBLE), "GPL"
    )


@dataclass(frozen=True, slots=True)
class Options:
    """How a chain is linked, but for who is laid in.

    ``said`` is what it says of itself, ``frags`` whether it takes frames in several buffers, ``taps`` what looks on,
    ``first`` whether packets come to it before other programs of the chain; the others are the dispatcher's, see
    ``assemble``.
    """

    hook: Hook
    counters_fd: int | None
    said: str = ""
    frags: bool = False
    atomic: bool = False
    key_fd: int | None = None
    onward: Onward | None = None
    taps: tuple[tapping.Functions, ...] = ()
    first: bool = True


def who(name: str) -> int:
    """The number by which a member is told apart in what taps write; 0 is nobody."""
    return zlib.crc32(name.encode()) or 1


def link(parts: Sequence[Part], options: Options, inline: Collection[int] = ()) -> Linked:
    """The chain of members in running order; those at the positions ``inline`` are laid into the dispatcher."""
    return _Linker(parts, options).run(frozenset(inline))


class _Linker:
    def __init__(self, parts: Sequence[Part], options: Options) -> None:
        self.parts, self.options = parts, options
        self.types = Types(options.hook, options.said)
        self.code = bytearray()
        self.funcs = array("I")
        self.lines = array("I")
        self.starts: list[tuple[int, int]] = [(0, -1)]

    def run(self, inline: frozenset[int]) -> Linked:
        given = self.options
        laid = {number: inlined(self.parts[number].image.insns) for number in inline}
        steps = [
            Step(one.proceed, one.slot, laid.get(number)) for number, one in enumerate(self.parts)
        ]
        xdp = given.hook is Hook.XDP
        made = assemble(
            steps, given.counters_fd, layout(given.hook),
            key_fd=given.key_fd, atomic=given.atomic, onward=given.onward, taps=self._taps(),
            empty=XdpAction.PASS if xdp else TcAction.UNSPEC,
        )  # fmt: skip
        self.code = made.code
        self.funcs.extend((0, self.types.dispatcher(CHAIN_NAME)))
        self.lines.extend(self.types.own_line(0))
        for number, (begin, end) in made.places.items():
            self._lay(number, begin, end)
        for number, at in made.calls.items():
            self._append(number, at)
        self._append_taps(made.taps)
        request = sys_bpf.ProgLoad(
            prog_type=ProgType.XDP if xdp else ProgType.SCHED_CLS,
            insns=bytes(self.code),
            license=license_of(self.parts),
            name=CHAIN_NAME,
            expected_attach_type=AttachType.XDP if xdp else AttachType.NONE,
            flags=ProgFlag.XDP_HAS_FRAGS if xdp and given.frags else 0,
            func_info=records(self.funcs),
            line_info=records(self.lines),
        )
        return Linked(request, self.types.to_bytes(), tuple(self.starts))

    def _taps(self) -> Taps:
        """Who looks on, and where."""
        taps = self.options.taps
        hook = tuple(number for number, one in enumerate(taps) if not one.member)
        steps = {
            position: tuple(number for number, one in enumerate(taps) if one.member == part.name)
            for position, part in enumerate(self.parts)
        }
        return Taps(hook, steps, self.options.first, [who(one.name) for one in self.parts])

    def _append_taps(self, calls: Sequence[tuple[int, int, str]]) -> None:
        """The functions of the taps that are called in this program, and the calls of them."""
        given = self.options
        for number in sorted({tap for _, tap, _ in calls}):
            called = {name for _, tap, name in calls if tap == number}
            made = tapping.functions(
                given.taps[number], given.hook, layout(given.hook), frags=given.frags
            )
            if tapping.ENTER not in called:
                made = [one for one in made if one[0] == tapping.LEAVE]
            code, starts = tapping.link(made)
            base = len(self.code) // bpf.SIZE
            self.code += code
            self.starts.append((base, -1))
            for name, start in starts.items():
                self.funcs.extend((base + start, self.types.static(f"tap{number}_{name}")))
                self.lines.extend(self.types.own_line(base + start))
            for at, tap, name in calls:
                if tap == number:
                    bpf.set_imm(self.code, at, base + starts[name] - at - 1)

    def _lay(self, number: int, begin: int, end: int) -> None:
        part = self.parts[number]
        self.starts += [(begin, number), (end, -1)]
        self.lines.extend(self.types.lines(part, begin, 0, end - begin))
        self.lines.extend(self.types.own_line(end))
        self._local_types(part, begin)

    def _append(self, number: int, at: int) -> None:
        """The functions of a member behind all that is there; the call at ``at`` goes to the first of them."""
        part, image = self.parts[number], self.parts[number].image
        base = len(self.code) // bpf.SIZE
        bpf.set_imm(self.code, at, base - at - 1)
        self.code += image.insns
        self.starts.append((base, number))
        own = MemberTypes(self.types, part.spec.btf) if part.spec.btf else None
        placed = sorted(image.functions)
        ends = [one.at for one in placed[1:]] + [len(image.insns) // bpf.SIZE]
        for one, end in zip(placed, ends, strict=True):
            function = one.function
            if one.at == 0:
                type_id = self.types.entry(function.name)
            elif function.static or function.hidden:
                type_id = self.types.static(function.name)
            else:
                type_id = self._global(own, one)
            self.funcs.extend((base + one.at, type_id))
            lines = self.types.lines(part, base + one.at, one.at, end)
            if not lines or lines[0] != base + one.at:
                self.lines.extend(self.types.own_line(base + one.at))
            self.lines.extend(lines)
        self._local_types(part, base)

    def _global(self, own: MemberTypes | None, one: Placed) -> int:
        """The type of a function that is verified by itself; without a good one, it is verified as it is called."""
        if own and one.type_id:
            try:
                return own.function(one.type_id)
            except ObjectError:
                pass
        return self.types.static(one.function.name)

    def _local_types(self, part: Part, base: int) -> None:
        """Instructions that name types of the object by id name those of the chain."""
        own = None
        for at, relocation in part.image.relocations:
            if relocation.kind == _TYPE_ID_LOCAL and part.spec.btf:
                own = own or MemberTypes(self.types, part.spec.btf)
                bpf.set_imm(self.code, base + at, own.local(relocation.type_id))
