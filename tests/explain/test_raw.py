"""Rejections that no XDP or TC object file leads to: instructions by hand, and programs of other types."""

from collections.abc import Sequence

import pytest

from netbpf._sys import bpf as sys_bpf
from netbpf.bpf.insn import CALL, EXIT, LD_IMM64, MOV64_IMM, MOV64_REG, PSEUDO_MAP_FD, Insn
from netbpf.constants import ProgType
from netbpf.explain import Explanation, explain_log

pytestmark = pytest.mark.root

CGROUP_SKB = 8  # BPF_PROG_TYPE_CGROUP_SKB
SOCKET_FILTER = 1
CGROUP_INET_INGRESS = 0
LDX_W, STX_B, ADD_IMM, JGT_REG = 0x61, 0x73, 0x07, 0x2D
SKB_DATA, SKB_DATA_END = 76, 80  # offsets in struct __sk_buff
DONE = (Insn(MOV64_IMM, 0, 0, 0, 0), Insn(EXIT))

WRITE_PACKET = (
    Insn(LDX_W, 2, 1, SKB_DATA),
    Insn(LDX_W, 3, 1, SKB_DATA_END),
    Insn(MOV64_REG, 4, 2),
    Insn(ADD_IMM, 4, 0, 0, 1),
    Insn(JGT_REG, 4, 3, 1),
    Insn(STX_B, 2, 4, 0),
    *DONE,
)
CASES = {
    "writing a packet at a cgroup": (CGROUP_SKB, WRITE_PACKET, "packet-write-forbidden"),
    "a verdict that is none": (CGROUP_SKB, (Insn(MOV64_IMM, imm=7), Insn(EXIT)), "return-range"),
    "a map that is none": (
        ProgType.XDP,
        (Insn(LD_IMM64, 1, PSEUDO_MAP_FD, 0, 99_999), Insn(0), *DONE),
        "bad-map-fd",
    ),
    "half a 64-bit load": (ProgType.XDP, (Insn(LD_IMM64, 1), *DONE), "bad-instruction"),
    "register 11": (ProgType.XDP, (Insn(MOV64_REG, 11, 1), *DONE), "bad-instruction"),
    "a helper of no number": (
        ProgType.XDP,
        (Insn(CALL, imm=195896080), *DONE),
        "core-missing",
    ),
    "no end": (ProgType.XDP, (Insn(MOV64_IMM),), "falls-off"),
    "an XDP helper in a socket filter": (
        SOCKET_FILTER,
        (Insn(MOV64_IMM, 2), Insn(CALL, imm=44), *DONE),
        "helper-wrong-type",
    ),
}  # fmt: skip


def refused(kind: int, insns: Sequence[Insn]) -> Explanation:
    code = b"".join(one.pack() for one in insns)
    request = sys_bpf.ProgLoad(
        kind,
        code,
        "GPL",
        "raw",
        expected_attach_type=37 if kind == ProgType.XDP else CGROUP_INET_INGRESS,
    )
    fd, _, log = sys_bpf.prog_load(request, log_size=1 << 16)
    if fd:
        fd.close()
    assert fd is None
    return explain_log(log.decode())


@pytest.mark.parametrize("name", CASES)
def test_code_by_hand(name: str) -> None:
    kind, insns, entry = CASES[name]
    found = refused(kind, insns)
    assert found.id == entry, found.words
    assert found.excerpt is None
