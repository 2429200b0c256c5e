"""Many packets in one BPF_PROG_TEST_RUN: the program behind a driver that hands it one packet after the other."""

import functools
import mmap
import struct
from array import array
from collections.abc import Iterator

from netbpf._sys import bpf as sys_bpf
from netbpf._sys.fd import Fd
from netbpf.bpf import insn as bpf
from netbpf.bpf.btf.build import STATIC, Builder
from netbpf.bpf.btf.fixup import for_kernel
from netbpf.bpf.btf.types import Btf, Param
from netbpf.bpf.insn import Insn
from netbpf.bpf.loader import Loaded
from netbpf.constants import AttachType, Hook, MapFlag, MapType, ProgFlag, ProgType
from netbpf.errors import KernelError, NetbpfError
from netbpf.packets import batch_code
from netbpf.packets.batch_code import AFTER, INDEX, STATE, STUCK, Layout
from netbpf.packets.capture.model import WINDOW, Block
from netbpf.packets.replay_runner import Outputs, Piece
from netbpf.packets.replay_single import SingleRunner

_CAPACITY = 1 << 14
_OUTPUT = 1 << 20  # bytes
_U32 = struct.Struct("<I")
_HEADROOM = 256  # bytes, XDP_PACKET_HEADROOM


class BatchRunner:
    """Runs an XDP program on many packets per system call, exactly as one TEST_RUN per packet would."""

    def __init__(self, loaded: Loaded, layout: Layout, driver: Fd, shared: Fd) -> None:
        """Take over both descriptors."""
        self._layout, self._driver, self._map = layout, driver, shared
        page = mmap.PAGESIZE
        self._mapped = mmap.mmap(shared.fileno(), (layout.size + page - 1) & -page)
        self._view = memoryview(self._mapped)
        self.memory = self._view[layout.input : layout.input + layout.input_size]
        self._single = SingleRunner(
            loaded.program.fd.fileno(), Hook.XDP, outputs=bool(layout.output_size), memory=self.memory
        )  # fmt: skip

    def run(self, block: Block) -> Iterator[Piece]:
        """Run it on every packet, in order."""
        at, total = 0, len(block.starts)
        while at < total:
            count = min(total - at, self._layout.capacity)
            self._put(self._layout.offsets, block.starts[at : at + count])
            self._put(self._layout.lengths, block.lengths[at : at + count])
            yield from self._rounds(block, at, count)
            at += count

    def _put(self, where: int, numbers: list[int]) -> None:
        data = array("I", numbers).tobytes()
        self._view[where : where + len(data)] = data

    def _rounds(self, block: Block, first: int, count: int) -> Iterator[Piece]:
        """Run what the tables hold, as often as it takes: a full output area or a packet can end a round early."""
        done = 0
        while done < count:
            STATE.pack_into(self._view, 0, done, 0, 0, 0, 0, count - done)
            sys_bpf.prog_test_run(self._driver.fileno(), bytes(batch_code.MIN_PACKET))
            now, stuck = (
                _U32.unpack_from(self._view, INDEX)[0],
                _U32.unpack_from(self._view, STUCK)[0],
            )
            if stuck == AFTER:
                raise NetbpfError(f"the packet that became of packet {first + now} cannot be read")
            if now > done:
                yield self._piece(first, done, now)
            done = now
            if stuck:
                # Too short, too long for one piece of memory: TEST_RUN itself decides what becomes of it.
                yield self._single.only(block, first + done)
                done += 1

    def _piece(self, first: int, begin: int, end: int) -> Piece:
        layout = self._layout
        outputs = None
        if layout.output_size:
            lengths = self._numbers(layout.out_lengths, begin, end)
            used = sum(lengths)
            outputs = Outputs(self._view[layout.output : layout.output + used], lengths)
        return Piece(first + begin, self._numbers(layout.verdicts, begin, end), outputs)

    def _numbers(self, where: int, begin: int, end: int) -> list[int]:
        return self._view[where + 4 * begin : where + 4 * end].cast("I").tolist()

    def close(self) -> None:
        """Let go of the driver and its map."""
        self._driver.close()
        self._map.close()


def batch_runner(loaded: Loaded, *, outputs: bool) -> BatchRunner | None:
    """A runner in batches, or None where the program or the kernel does not allow it (Linux 5.18).

    Programs that jump elsewhere (tail calls, kernel functions) could do more than the driver makes good. Programs that
    use all of the stack, or nest eight calls deep, have no room for it.
    """
    moves = _moves(loaded.image.insns)
    if moves is None:
        return None
    headroom = _reachable_headroom() if moves else 0
    if headroom is None:
        return None
    layout = Layout(_CAPACITY, WINDOW, _OUTPUT if outputs else 0)
    try:
        shared = sys_bpf.map_create(
            MapType.ARRAY, 4, (layout.size + 7) & ~7, 1, flags=MapFlag.MMAPABLE, name="netbpf_batch"
        )
    except KernelError:
        return None
    driver = None
    try:
        driver = _load(loaded, layout, shared, moves=moves, headroom=headroom)
        return BatchRunner(loaded, layout, driver, shared) if driver else None
    finally:
        if driver is None:
            shared.close()


def _moves(code: bytearray) -> bool | None:
    """Whether a program can move the beginning of the packet; None where its instructions do not say."""
    moves = False
    index, count = 0, len(code) // bpf.SIZE
    while index < count:
        one = bpf.read(code, index)
        if one.code == bpf.CALL:
            if one.src == bpf.PSEUDO_KFUNC_CALL or (
                one.src == 0 and one.imm == batch_code.TAIL_CALL
            ):
                return None
            moves |= one.src == 0 and one.imm in (batch_code.ADJUST_HEAD, batch_code.ADJUST_META)
        index += 2 if one.code == bpf.LD_IMM64 else 1
    return moves


def _load(loaded: Loaded, layout: Layout, shared: Fd, *, moves: bool, headroom: int) -> Fd | None:
    code, body = batch_code.assemble(layout, shared.fileno(), moves=moves, headroom=headroom)
    base = len(code) // bpf.SIZE
    types, functions = _types(loaded)
    places = [0, body, *(base + one.at for one in loaded.image.functions)]
    btf, _, _ = sys_bpf.btf_load(types)
    if btf is None:
        return None
    with btf:
        program, _, _ = sys_bpf.prog_load(
            sys_bpf.ProgLoad(
                prog_type=ProgType.XDP,
                insns=bytes(code + loaded.image.insns),
                license=loaded.spec.license,
                name="netbpf_batch",
                expected_attach_type=AttachType.XDP,
                flags=loaded.program_spec.declared.flags & ProgFlag.XDP_HAS_FRAGS,
                btf_fd=btf.fileno(),
                func_info=b"".join(
                    struct.pack("<II", *pair) for pair in zip(places, functions, strict=True)
                ),
            )
        )
    return program


def _types(loaded: Loaded) -> tuple[bytes, list[int]]:
    """BTF, and the types of all functions: bpf_loop wants them. The program itself becomes a static function, which
    the verifier follows from its call, as it does when the program stands alone."""
    spec, functions = loaded.spec, loaded.image.functions
    typed = spec.btf is not None and all(one.type_id for one in functions)
    if typed and spec.btf:
        hidden = frozenset(one.name for one in spec.functions if one.hidden and not one.static)
        builder = Builder(Btf(for_kernel(spec.btf, hidden)))
    else:
        builder = Builder()
    number = builder.integer("int", 4, signed=True)
    context = builder.ptr(builder.struct("xdp_md", 0, []))
    main = builder.func_proto(number, [Param("ctx", context)])
    each = builder.func_proto(number, [Param("index", number), Param("place", builder.ptr(0))])
    ids = [
        builder.func("netbpf_batch", main, STATIC),
        builder.func("netbpf_each", each, STATIC),
        builder.func("netbpf_program", main, STATIC),
    ]
    for place, one in enumerate(functions[1:], 1):
        ids.append(one.type_id if typed else builder.func(f"netbpf_part{place}", main, STATIC))
    return builder.to_bytes(), ids


@functools.cache
def _reachable_headroom() -> int | None:
    """How many bytes before a packet a program can reach in TEST_RUN: what struct xdp_frame leaves of the headroom.

    Its size differs by kernel. The packet tells a small program how many bytes to go back.
    """
    load32, jump_greater = 0x61, 0x2D
    code = b"".join(one.pack() for one in (
        Insn(load32, 2, 1, 0), Insn(load32, 3, 1, 4),
        Insn(bpf.MOV64_REG, 4, 2), Insn(0x07, 4, imm=4), Insn(bpf.MOV64_IMM, 0, imm=1),
        Insn(jump_greater, 4, 3, 3),
        Insn(load32, 2, 2, 0), Insn(0x87, 2), Insn(bpf.CALL, imm=batch_code.ADJUST_HEAD),
        Insn(bpf.EXIT),
    ))  # fmt: skip
    program, _, _ = sys_bpf.prog_load(
        sys_bpf.ProgLoad(ProgType.XDP, code, "GPL", "netbpf_room", AttachType.XDP)
    )
    if program is None:
        return None
    with program:
        for room in range(_HEADROOM, 0, -8):
            packet = _U32.pack(room).ljust(64, b"\0")
            if sys_bpf.prog_test_run(program.fileno(), packet).retval == 0:
                return room
    return None
