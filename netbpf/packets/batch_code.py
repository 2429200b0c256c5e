"""The instructions that run a program over many packets in one system call.

TEST_RUN with ``repeat`` runs a program again and again on one buffer. What is assembled here stands before the program
and is what TEST_RUN runs: each round it makes the buffer what a TEST_RUN of the next packet alone would have begun
with, calls the program as a function, and notes its verdict and, if wanted, the packet afterwards. The packets and the
results lie in one map that the process has mapped.

What a program can leave behind in the buffer, and what makes it as new (kernel net/core/filter.c, net/bpf/test_run.c):

- the packet's length: bpf_xdp_adjust_tail, which clears what it adds, as TEST_RUN clears its buffer;
- the packet's content: overwritten, by bpf_xdp_store_bytes (Linux 5.18);
- the packet's beginning, metadata, and bytes before the beginning: only programs that call bpf_xdp_adjust_head or
  bpf_xdp_adjust_meta reach these. For them the driver moves the beginning back and clears the headroom.
"""

import struct
from typing import NamedTuple

from netbpf.bpf import insn as bpf
from netbpf.bpf.insn import Insn

MIN_PACKET = 14  # bytes, ETH_HLEN: TEST_RUN takes nothing shorter
MAX_PACKET = 4096  # bytes, a page: no packet in one piece is longer

# Helpers (enum bpf_func_id).
TAIL_CALL = 12
ADJUST_HEAD, ADJUST_META, ADJUST_TAIL = 44, 54, 65
_LOOP, _LOAD_BYTES, _STORE_BYTES = 181, 189, 190
_FRAME = 10

_CTX, _INDEX, _LENGTH, _CURSOR = 6, 7, 8, 9  # registers that calls leave alone
R0, R1, R2, R3, R4, R5 = range(6)
_JA, _JEQ, _JNE, _JGT, _JGE, _JLT, _JSGT = 0x05, 0x15, 0x55, 0x25, 0x35, 0xA5, 0x65
_ADD, _ADD_REG, _SUB_REG, _SHIFT = 0x07, 0x0F, 0x1F, 0x67
_LOAD32, _LOAD64, _STORE32, _STORE64, _STORE32_IMM = 0x61, 0x79, 0x63, 0x7B, 0x62


class Layout(NamedTuple):
    """Where things lie in the map, in bytes. ``capacity`` is the number of packets, ``input`` and ``output`` areas
    take ``input_size`` and ``output_size`` bytes (no outputs: 0) besides a spare page each."""

    capacity: int
    input_size: int
    output_size: int = 0

    @property
    def zeros(self) -> int:
        """256 bytes of zeros."""
        return 256

    @property
    def offsets(self) -> int:
        """u32 per packet: where it begins in the input area."""
        return 4096

    @property
    def lengths(self) -> int:
        """u32 per packet."""
        return self.offsets + 4 * self.capacity

    @property
    def verdicts(self) -> int:
        """u32 per packet: what the program returned."""
        return self.lengths + 4 * self.capacity

    @property
    def out_lengths(self) -> int:
        """u32 per packet: its length afterwards."""
        return self.verdicts + 4 * self.capacity

    @property
    def input(self) -> int:
        """The packets."""
        return self.out_lengths + 4 * self.capacity

    @property
    def output(self) -> int:
        """The packets afterwards, end to end."""
        return self.input + self.input_size + MAX_PACKET

    @property
    def size(self) -> int:
        """All of it."""
        return self.output + (self.output_size + MAX_PACKET if self.output_size else 0)


class Driver(NamedTuple):
    """Assembled code, and at which instruction its second function begins."""

    code: bytearray
    body: int


# The state, at the map's beginning: u32 INDEX of the next packet, u32 STUCK, u64 START of packets in the buffer, u64
# SCRATCH, u32 CURSOR in the output area, u32 COUNT of the packets to run.
STATE = struct.Struct("<IIQQII")
INDEX, STUCK, START, SCRATCH, CURSOR, COUNT = 0, 4, 8, 16, 24, 28
# Values of STUCK: the program did not run on the packet; it ran, and its output could not be taken.
BEFORE, AFTER = 1, 2


def assemble(layout: Layout, map_fd: int, *, moves: bool, headroom: int) -> Driver:
    """The driver; the program's own instructions are to stand right behind it.

    ``moves`` says that the program can move the packet's beginning, ``headroom`` how many bytes before it it can reach.
    """
    return _Assembler(layout, map_fd).run(moves=moves, headroom=headroom)


class _Assembler:
    def __init__(self, layout: Layout, map_fd: int) -> None:
        self.layout, self.map_fd = layout, map_fd
        self.code = bytearray()
        self.jumps: list[tuple[int, str]] = []
        self.labels: dict[str, int] = {}

    def put(self, *instructions: Insn) -> None:
        for one in instructions:
            self.code += one.pack()

    def jump(self, one: Insn, label: str) -> None:
        self.jumps.append((len(self.code) // bpf.SIZE, label))
        self.put(one)

    def label(self, name: str) -> None:
        self.labels[name] = len(self.code) // bpf.SIZE

    def address(self, register: int, offset: int) -> None:
        self.put(
            Insn(bpf.LD_IMM64, register, bpf.PSEUDO_MAP_VALUE, imm=self.map_fd), Insn(0, imm=offset)
        )

    def element(self, register: int, offset: int, index: int, work: int) -> None:
        """The address of a u32 of an array."""
        self.address(register, offset)
        self.put(
            Insn(bpf.MOV64_REG, work, index),
            Insn(_SHIFT, work, imm=2),
            Insn(_ADD_REG, register, work),
        )

    def helper(self, number: int, failed: str = "stuck") -> None:
        """Call a helper on the packet that gives 0."""
        self.put(Insn(bpf.MOV64_REG, R1, _CTX), Insn(bpf.CALL, imm=number))
        self.jump(Insn(_JNE, R0, imm=0), failed)

    def run(self, *, moves: bool, headroom: int) -> Driver:
        self.main()
        body = len(self.code) // bpf.SIZE
        self.begin()
        if moves:
            self.rewind(headroom)
        self.fill()
        self.put(Insn(bpf.MOV64_REG, R1, _CTX))
        call = len(self.code) // bpf.SIZE
        self.put(Insn(bpf.CALL, src=bpf.PSEUDO_CALL))
        self.note()
        self.end()
        bpf.set_imm(self.code, call, len(self.code) // bpf.SIZE - call - 1)
        for at, label in self.jumps:
            bpf.write(
                self.code, at, bpf.read(self.code, at)._replace(off=self.labels[label] - at - 1)
            )
        return Driver(self.code, body)

    def main(self) -> None:
        """For each packet: call what follows. The context goes by the stack."""
        self.put(Insn(_STORE64, _FRAME, R1, -8))
        self.address(R1, 0)
        self.put(
            Insn(_LOAD32, R1, R1, COUNT),
            # The function begins behind this load, the rest of this one and its exit.
            Insn(bpf.LD_IMM64, R2, bpf.PSEUDO_FUNC, imm=7), Insn(0),
            Insn(bpf.MOV64_REG, R3, _FRAME), Insn(_ADD, R3, imm=-8), Insn(bpf.MOV64_IMM, R4),
            Insn(bpf.CALL, imm=_LOOP), Insn(bpf.MOV64_IMM, R0), Insn(bpf.EXIT),
        )  # fmt: skip

    def begin(self) -> None:
        layout = self.layout
        self.put(Insn(_LOAD64, _CTX, R2))
        self.address(R1, 0)
        self.put(Insn(_LOAD32, R2, R1, STUCK))
        self.jump(Insn(_JNE, R2, imm=0), "exit")
        self.put(Insn(_LOAD32, _INDEX, R1, INDEX))
        self.jump(Insn(_JGE, _INDEX, imm=layout.capacity), "exit")
        if layout.output_size:
            self.put(Insn(_LOAD32, _CURSOR, R1, CURSOR))
            self.jump(Insn(_JGE, _CURSOR, imm=layout.output_size), "exit")
        self.element(R1, layout.lengths, _INDEX, R2)
        self.put(Insn(_LOAD32, _LENGTH, R1))
        self.jump(Insn(_JGT, _LENGTH, imm=MAX_PACKET), "stuck")
        self.jump(Insn(_JLT, _LENGTH, imm=MIN_PACKET), "stuck")

    def rewind(self, headroom: int) -> None:
        """Put the packet's beginning back to where TEST_RUN has it, without metadata, in clean headroom."""
        self.address(R1, 0)
        self.put(
            Insn(_LOAD32, R2, _CTX, 0),  # data: a pointer to the verifier ...
            Insn(_STORE64, R1, R2, SCRATCH),
            Insn(_LOAD64, R3, R1, START),
        )
        self.jump(Insn(_JNE, R3, imm=0), "again")
        self.put(Insn(_STORE64, R1, R2, START))  # the first round: TEST_RUN has just made it
        self.jump(Insn(_JA), "rewound")
        self.label("again")
        self.put(Insn(_LOAD32, R4, _CTX, 8), Insn(_SUB_REG, R2, R4))  # data - data_meta
        self.jump(Insn(_JEQ, R2, imm=0), "no metadata")
        self.helper(ADJUST_META)
        self.label("no metadata")
        self.address(R1, 0)
        self.put(
            Insn(_LOAD64, R2, R1, START),
            Insn(_LOAD64, R3, R1, SCRATCH),  # ... and a number when it comes from a map
            Insn(_SUB_REG, R2, R3),
            Insn(_STORE64, R1, R2, SCRATCH),
        )
        # Going forward, the packet's end has to stay 14 bytes behind its beginning.
        self.put(
            Insn(_LOAD32, R4, _CTX, 4), Insn(_LOAD32, R5, _CTX, 0), Insn(_SUB_REG, R4, R5),
            Insn(_ADD, R2, imm=MIN_PACKET), Insn(_SUB_REG, R2, R4),
        )  # fmt: skip
        self.jump(Insn(_JSGT, R2, imm=0), "longer")
        self.jump(Insn(_JA), "long enough")
        self.label("longer")
        self.helper(ADJUST_TAIL)
        self.label("long enough")
        self.address(R1, 0)
        self.put(Insn(_LOAD64, R2, R1, SCRATCH), Insn(_ADD, R2, imm=-headroom))
        self.helper(ADJUST_HEAD)
        self.address(R3, self.layout.zeros)
        self.put(Insn(bpf.MOV64_IMM, R2, imm=0), Insn(bpf.MOV64_IMM, R4, imm=headroom))
        self.helper(_STORE_BYTES)
        self.put(Insn(bpf.MOV64_IMM, R2, imm=headroom))
        self.helper(ADJUST_HEAD)
        self.label("rewound")

    def fill(self) -> None:
        """Give the packet its length and content."""
        self.put(
            Insn(_LOAD32, R3, _CTX, 4), Insn(_LOAD32, R4, _CTX, 0), Insn(_SUB_REG, R3, R4),
            Insn(bpf.MOV64_REG, R2, _LENGTH), Insn(_SUB_REG, R2, R3),
        )  # fmt: skip
        self.jump(Insn(_JEQ, R2, imm=0), "right length")
        self.helper(ADJUST_TAIL)
        self.label("right length")
        self.element(R1, self.layout.offsets, _INDEX, R2)
        self.put(Insn(_LOAD32, R2, R1))
        self.jump(Insn(_JGE, R2, imm=self.layout.input_size), "stuck")
        self.address(R3, self.layout.input)
        self.put(
            Insn(_ADD_REG, R3, R2), Insn(bpf.MOV64_IMM, R2, imm=0), Insn(bpf.MOV64_REG, R4, _LENGTH)
        )
        self.helper(_STORE_BYTES)

    def note(self) -> None:
        """Keep the verdict, and the packet where outputs are wanted."""
        layout = self.layout
        self.element(R1, layout.verdicts, _INDEX, R2)
        self.put(Insn(_STORE32, R1, R0))
        if layout.output_size:
            self.put(Insn(_LOAD32, R4, _CTX, 4), Insn(_LOAD32, R5, _CTX, 0), Insn(_SUB_REG, R4, R5))
            self.element(R1, layout.out_lengths, _INDEX, R2)
            self.put(Insn(_STORE32, R1, R4), Insn(bpf.MOV64_REG, _LENGTH, R4))
            self.jump(Insn(_JGT, R4, imm=MAX_PACKET), "lost")
            self.jump(Insn(_JEQ, R4, imm=0), "lost")
            self.address(R3, layout.output)
            self.put(Insn(_ADD_REG, R3, _CURSOR), Insn(bpf.MOV64_IMM, R2, imm=0))
            self.helper(_LOAD_BYTES, "lost")
            self.put(Insn(_ADD_REG, _CURSOR, _LENGTH))
            self.address(R1, 0)
            self.put(Insn(_STORE32, R1, _CURSOR, CURSOR))
        self.address(R1, 0)
        self.put(Insn(_ADD, _INDEX, imm=1), Insn(_STORE32, R1, _INDEX, INDEX))

    def end(self) -> None:
        self.put(Insn(bpf.MOV64_IMM, R0), Insn(bpf.EXIT))
        self.label("exit")
        self.put(Insn(bpf.MOV64_IMM, R0, imm=1), Insn(bpf.EXIT))
        self.label("stuck")
        self.address(R1, 0)
        self.put(Insn(_STORE32_IMM, R1, 0, STUCK, BEFORE))
        self.jump(Insn(_JA), "exit")
        if self.layout.output_size:  # the verifier takes no code that nothing jumps to
            self.label("lost")
            self.address(R1, 0)
            self.put(Insn(_STORE32_IMM, R1, 0, STUCK, AFTER))
            self.jump(Insn(_JA), "exit")
