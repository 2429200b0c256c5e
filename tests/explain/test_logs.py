"""Logs in the formats of older kernels, logs nobody can explain, and hostile ones. No kernel is asked."""

import time

import pytest

from netbpf.errors import VerifierError
from netbpf.explain import explain, explain_log, log
from netbpf.explain.catalogue import ENTRIES
from netbpf.explain.model import CodeLine, RejectedCode
from netbpf.explain.values import words
from tests.explain.rejecting import ALL

XDP = RejectedCode("prog", "xdp")

# (kernel whose format it is, log, entry, words of the reason, instruction)
OLD = [
    (
        "4.14",
        """0: (61) r2 = *(u32 *)(r1 +4)
1: (61) r1 = *(u32 *)(r1 +0)
2: (71) r0 = *(u8 *)(r1 +12)
invalid access to packet, off=12 size=1, R1(id=0,off=12,r=0)
""",
        "packet-unchecked", "reads byte 12", 2,
    ),
    (
        "4.19",
        """0: (b7) r1 = 0
1: (63) *(u32 *)(r10 -4) = r1
2: (bf) r2 = r10
3: (07) r2 += -4
4: (18) r1 = 0xffff9b1e8b5a2c00
6: (85) call bpf_map_lookup_elem#1
7: (61) r1 = *(u32 *)(r0 +0)
 R0=map_value_or_null(id=1,off=0,ks=4,vs=16,imm=0) R10=fp0,call_-1 fp-8=mmmm????
R0 invalid mem access 'map_value_or_null'
""",
        "map-value-null", "bpf_map_lookup_elem() returned may be NULL", 7,
    ),
    (
        "5.4",
        """0: (bf) r6 = r1
1: (61) r7 = *(u32 *)(r6 +0)
2: (b7) r2 = -14
3: (85) call bpf_xdp_adjust_head#44
4: (55) if r0 != 0x0 goto pc+2
 R0_w=inv0 R6_w=ctx(id=0,off=0,imm=0) R7_w=inv(id=0) R10=fp0
5: (71) r0 = *(u8 *)(r7 +12)
R7 invalid mem access 'inv'
processed 6 insns (limit 1000000) max_states_per_insn 0 total_states 0 peak_states 0 mark_read 0
""",
        "packet-pointer-stale", "before bpf_xdp_adjust_head()", 5,
    ),
    (
        "5.10",
        """func#0 @0
0: R1=ctx(id=0,off=0,imm=0) R10=fp0
; struct ethhdr *eth = data;
0: (61) r2 = *(u32 *)(r1 +4)
1: R1=ctx(id=0,off=0,imm=0) R2_w=pkt_end(id=0,off=0,imm=0) R10=fp0
1: (61) r1 = *(u32 *)(r1 +0)
2: R1_w=pkt(id=0,off=0,r=0,imm=0) R2_w=pkt_end(id=0,off=0,imm=0) R10=fp0
2: (bf) r3 = r1
3: R1_w=pkt(id=0,off=0,r=0,imm=0) R3_w=pkt(id=0,off=0,r=0,imm=0) R10=fp0
3: (07) r3 += 14
4: (2d) if r3 > r2 goto pc+4
 R1_w=pkt(id=0,off=0,r=14,imm=0) R2_w=pkt_end(id=0,off=0,imm=0) R3_w=pkt(id=0,off=14,r=14,imm=0) R10=fp0
; if (ip->saddr == 1)
5: (61) r1 = *(u32 *)(r1 +26)
invalid access to packet, off=26 size=4, R1(id=0,off=26,r=14)
R1 offset is outside of the packet
processed 6 insns (limit 1000000) max_states_per_insn 0 total_states 0 peak_states 0 mark_read 0
""",
        "packet-short-check", "only 14 bytes were compared", 5,
    ),
    (
        "5.15",
        """0: (61) r1 = *(u32 *)(r1 +16)
1: R1_w=inv(id=0,umax_value=4294967295,var_off=(0x0; 0xffffffff)) R10=fp0
1: (61) r0 = *(u32 *)(r1 +0)
R1 invalid mem access 'inv'
""",
        "scalar-dereference", "a number to the verifier", 1,
    ),
    ("5.15", "6: (85) call bpf_skb_load_bytes#26\nunknown func bpf_skb_load_bytes#26\n",
     "helper-wrong-type", "XDP program", 6),
    ("4.14", "6: (85) call bpf_probe_read#4\ncannot call GPL only function from proprietary program\n", "helper-gpl",
     "bpf_probe_read()", 6),
    ("5.10", "back-edge from insn 12 to 4\n", "loop-back-edge", "has a loop", 12),
    ("5.0", "BPF program is too large. Processed 131073 insn\n", "too-complex", "131,072 instructions", None),
    ("5.10", "4: (63) *(u32 *)(r1 +12) = 5\nBPF_ST stores into R1 ctx is not allowed\n",
     "ctx-constant-store", "stores a constant", 4),
    ("5.10", "7: (db) lock *(u64 *)(r1 +0) += r2\nBPF_XADD stores into R1 pkt is not allowed\n",
     "atomic-memory", "not on the packet", 7),
    (
        "5.15",
        """0: R1=ctx(id=0,off=0,imm=0) R10=fp0
0: (bf) r2 = r10
1: R1=ctx(id=0,off=0,imm=0) R2_w=fp0 R10=fp0
1: (07) r2 += -8
2: (18) r1 = 0xffff888100b5a000
4: (85) call bpf_map_lookup_elem#1
invalid indirect read from stack R2 off -8+0 size 4
""",
        "stack-uninitialised", "4 bytes of stack at -8", 4,
    ),
    ("4.19", "3: (7b) *(u64 *)(r10 -520) = r1\ninvalid stack off=-520 size=8\n", "stack-outside", "512 bytes", 3),
    (
        "5.15",
        """4: (85) call bpf_map_lookup_elem#1
R1 type=inv expected=map_ptr
""",
        "helper-argument", "first argument of bpf_map_lookup_elem()", 4,
    ),
    (
        "5.15",
        """0: (61) r3 = *(u32 *)(r1 +16)
; size
1: R3_w=inv(id=0,umax_value=4294967295,var_off=(0x0; 0xffffffff)) R10=fp0
1: (67) r3 <<= 32
2: (c7) r3 s>>= 32
3: (85) call bpf_ringbuf_output#130
R3 min value is negative, either use unsigned or 'var &= const'
""",
        "size-negative", "may be negative", 3,
    ),
    ("6.1", "9: (95) exit\nbpf_spin_unlock is missing\n", "lock-kept", "holds the lock", 9),
    ("6.1", "Unreleased reference id=2 alloc_insn=4\n", "reference-leak", "instruction 4", 4),
    ("6.1", "5: (95) exit\nAt program exit the register R0 has value (0x2; 0x0) should have been in (0x0; 0x1)\n",
     "return-range",
     "may only return a value in (0x0; 0x1)", 5),
    ("6.6", "5: (95) exit\nAt program exit the register R0 has smin=2 smax=2 should have been in [0, 1]\n",
     "return-range", "returns 2", 5),
    ("5.4", "2: (85) call pc+3\nthe call stack of 9 frames is too deep !\n", "call-depth", "9 functions deep", 2),
    # Not to be had through an object file, or not on this kernel.
    ("6.18", "fd 9999 is not pointing to valid bpf_map\n", "bad-map-fd", "no map", None),
    ("5.4", "0: (b7) r0 = 0\nR11 is invalid\n", "bad-instruction", "does not know an instruction", 0),
    ("6.18", "0: (18) r1 = 0x0\ninvalid BPF_LD_IMM64 insn\n", "bad-instruction", "does not know an instruction", 0),
    ("6.18", "3: (63) *(u32 *)(r1 +0) = r2\ncannot write into packet\n",
     "packet-write-forbidden", "not write to them", 3),
    ("6.18", "3: (85) call unknown#195896080\ninvalid func unknown#195896080\n", "core-missing", "does not have", 3),
    ("6.18", "3: (07) r1 += 8\nR1 pointer arithmetic on map_ptr prohibited\n", "pointer-kind", "the map", 3),
    ("6.18", "3: (61) r0 = *(u32 *)(r1 +0)\nR1 invalid mem access 'func'\n", "pointer-access", "a function", 3),
    ("6.18", "program prog of big.o is too large: 1200000 instructions", "too-many-instructions", "1,200,000", None),
    ("6.18", "4: (85) call bpf_loop#181\nlast line that nobody knows\n", "", "no explanation", 4),
]  # fmt: skip


@pytest.mark.parametrize(
    ("kernel", "text", "entry", "said", "insn"), OLD, ids=[f"{one[0]}-{one[2]}" for one in OLD]
)
def test_formats_of_other_kernels(
    kernel: str, text: str, entry: str, said: str, insn: int | None
) -> None:
    found = explain_log(text, XDP)
    assert found.id == entry, f"{kernel}: {found.reason}"
    assert said in found.reason
    assert found.insn == insn


def test_every_entry_has_a_rejection() -> None:
    shown = {one.reason for one in ALL.values()} | {entry for _, _, entry, _, _ in OLD}
    assert {entry.id for entry in ENTRIES} <= shown
    assert len({entry.id for entry in ENTRIES}) == len(ENTRIES)


def test_an_old_log_tells_lines_without_numbers() -> None:
    text = OLD[3][1]
    found = explain_log(text)
    assert found.excerpt is not None
    assert found.excerpt.place == ("", 0, "if (ip->saddr == 1)")
    assert [(one.subject, one.insn) for one in found.trace] == [("r1", 1)]


def test_the_newest_of_several_messages_counts() -> None:
    text = "3: (61) r0 = *(u32 *)(r1 +0)\nR9 !read_ok\n4: (05) goto pc+0\nR0 !read_ok\n"
    assert explain_log(text).reason.startswith("r0 ")


# --- nothing known ---


def test_an_unknown_rejection_shows_the_end_of_the_log() -> None:
    text = "\n".join(f"{n}: (b7) r0 = {n}" for n in range(100))
    found = explain_log(text + "\nsomething new in Linux 9\nprocessed 100 insns (limit 1000000)\n")
    assert not found.known
    assert "no explanation" in found.reason
    assert not found.advice
    assert found.words[-2:] == ("99: (b7) r0 = 99", "something new in Linux 9")
    assert len(found.words) == 8


@pytest.mark.parametrize(
    "text",
    ["", "\n\n\n", "processed 5 insns (limit 1000000)\n", "\0\x1b[31m", "R1", "0: (", ";", "; @ :"],
)
def test_a_log_that_says_nothing(text: str) -> None:
    assert not explain_log(text, XDP).known


def test_an_error_without_a_log() -> None:
    assert not explain(
        VerifierError("the kernel refuses program x: Invalid argument (EINVAL)")
    ).known


# --- registers ---

VALUES = [
    ("pkt(id=3,off=14,r=34,umax_value=60,var_off=(0x0; 0x3c))", "a pointer into the packet at byte 14 plus up to 60"),
    ("pkt(off=14,r=14)", "a pointer into the packet at byte 14"),
    ("inv(id=0,umax_value=255,var_off=(0x0; 0xff))", "a number from 0 to 255"),
    ("scalar(smin=0xffffffff80000000,smax=smax32=4)", "a number from -2147483648 to 4"),
    ("scalar(smin=smin32=0,smax=umax=smax32=umax32=20,var_off=(0x0; 0x1f))", "a number from 0 to 20"),
    ("scalar(smax=0x400000000,umax=0xffffffff00000000,smin32=0)", "a number of at most 17179869184"),
    ("inv-14", "the number -14"),
    ("0xfffffff2", "the number -14"),
    ("5", "the number 5"),
    ("scalar()", "a number, of which nothing is known"),
    ("inv(id=0)", "a number, of which nothing is known"),
    ("map_value_or_null(id=1,map=counters,ks=4,vs=16)", "a value of map counters (16 bytes), or NULL"),
    ("map_value(id=0,off=0,ks=4,vs=8,imm=0)", "a value of a map (8 bytes)"),
    ("fp-8", "the stack at -8"),
    ("fp[0]-16", "the stack at -16"),
    ("ctx(id=0,off=0,imm=0)", "the context"),
    ("ctx()", "the context"),
    ("trusted_ptr_task_struct()", "a pointer to the kernel's struct task_struct"),
    ("ringbuf_mem_or_null(id=2,ref_obj_id=2,sz=4)", "4 bytes of a ring buffer, or NULL"),
    ("sock_or_null(id=2,ref_obj_id=2)", "a socket, or NULL"),
    ("something_new(a=1)", "something_new"),
]  # fmt: skip


@pytest.mark.parametrize(("value", "said"), VALUES)
def test_values_in_words(value: str, said: str) -> None:
    assert words(value) == said


def test_a_state_line_of_any_kernel() -> None:
    for line in (
        "R1_w=Pscalar(smin=0,smax=5,var_off=(0x0; 0x7)) R2=fp-8 R10=fp0",
        "frame1: R1=scalar(smin=0,smax=5,var_off=(0x0; 0x7)) R2_rw=fp-8 R10=fp0 cb",
        "from 4 to 6: R1_r=scalar(smin=0,smax=5,var_off=(0x0; 0x7)) R2=fp-8 R10=fp0 refs=2",
    ):
        assert log.registers(line) == {
            1: "scalar(smin=0,smax=5,var_off=(0x0; 0x7))", 2: "fp-8", 10: "fp0"
        }, line  # fmt: skip


# --- size and malice ---


def test_a_log_of_16_mib_takes_less_than_a_second() -> None:
    state = "R0_w=scalar(smin=0,smax=umax=0xffffffff,var_off=(0x0; 0xffffffff)) R2=0x22e08"
    step = f"5: (bf) r0 = r2                       ; {state}\n"
    text = (
        step * ((16 << 20) // len(step)) + "R0 !read_ok\nprocessed 1000001 insns (limit 1000000)\n"
    )
    began = time.process_time()
    found = explain_log(text, XDP)
    assert time.process_time() - began < 1
    assert found.id == "register-uninitialised"


HOSTILE = [
    "0: R1=" + "(" * 2_000_000,
    "; " + " @ " * 500_000,
    "0: (bf) r1 = r2 ; R1=" + "(0x" * 500_000,
    "\n".join("1: (bf) r1 = " + " ;" * 1500 for _ in range(600)),
    "R1 type=" + "x" * 1_000_000 + " expected=",
    "1: (bf) r1 = r1\n" * 60_000 + "R1 invalid mem access 'scalar'",
    "99999999999999999999: (05) goto pc+0\ninfinite loop detected at insn 99999999999999999999\n",
    "2: (85) call pc+99999999999\nthe call stack of 9 frames is too deep\n",
    "R99 invalid mem access 'scalar'\nUnreleased reference id=1 alloc_insn=77777\n",
    "1: (85) call bpf_x#1\nR1 type=x expected=y\nCaller passes invalid args into func#99999\n",
]  # fmt: skip


@pytest.mark.parametrize("number", range(len(HOSTILE)))
def test_a_hostile_log_is_explained_in_time(number: int) -> None:
    began = time.process_time()
    explain_log(HOSTILE[number], XDP)
    assert time.process_time() - began < 2


def test_a_path_that_is_no_source_is_not_waited_for(tmp_path: object) -> None:
    for name in ("/dev/zero", "/proc/self/mem", "/", "/\0", "relative.c"):
        code = RejectedCode("prog", "xdp", (CodeLine(0, name, 1, "int x;"),), ((0, "prog"),))
        found = explain_log("0: (95) exit\nR0 !read_ok\n", code)
        assert found.excerpt is not None
        assert found.excerpt.lines == ((1, "int x;"),)


def test_line_0_is_no_line_and_another_functions_line_is_not_meant() -> None:
    lines = (
        CodeLine(0, "a.c", 5, "first();"),
        CodeLine(1, "a.c", 0, ""),
        CodeLine(3, "a.c", 0, ""),
    )
    code = RejectedCode("prog", "xdp", lines, ((0, "prog"), (3, "other")))
    found = explain_log("1: (95) exit\nR0 !read_ok\n", code)
    assert found.excerpt is not None
    assert (found.excerpt.place.line, found.excerpt.function) == (5, "prog")
    assert explain_log("3: (95) exit\nR0 !read_ok\n", code).excerpt is None
