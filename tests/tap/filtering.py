"""A filter by itself, as a program for TEST_RUN, beside libpcap's own interpreter."""

import struct

from netbpf._sys import bpf as sys_bpf
from netbpf._sys.fd import Fd
from netbpf.bpf import insn as bpf
from netbpf.bpf.tap.code import MATCH, link
from netbpf.bpf.tap.context import context_of
from netbpf.bpf.tap.pieces import SLOW, slow
from netbpf.bpf.tap.translate import translate
from netbpf.constants import Hook, ProgFlag, ProgType

SKB_SIZE = 192  # bytes of struct __sk_buff


def loaded(code: bytes, hook: Hook, *, frags: bool = False) -> Fd:
    """A program that says whether a packet matches."""
    context = context_of(hook, frags=frags)
    made = [(MATCH, translate(code, context))]
    if any(name == SLOW for _, name in made[0][1].calls):
        made.append((SLOW, slow(context)))
    insns, _ = link(made)
    xdp = hook is Hook.XDP
    request = sys_bpf.ProgLoad(
        prog_type=ProgType.XDP if xdp else ProgType.SCHED_CLS, insns=bytes(insns), license="GPL",
        name="filter", flags=ProgFlag.XDP_HAS_FRAGS if frags else 0,
    )  # fmt: skip
    fd, number, _ = sys_bpf.prog_load(request)
    if fd is None:
        _, number, log = sys_bpf.prog_load(request, log_size=1 << 22)
        raise AssertionError(f"errno {number}: {log.decode()[-3000:]}\n{len(insns) // bpf.SIZE}")
    return fd


def matches(program: Fd, packet: bytes, context: bytes = b"") -> bool:
    """What the kernel says."""
    done = sys_bpf.prog_test_run(
        program.fileno(), packet, data_out_size=len(packet) + 64, context=context,
        context_out_size=len(context),
    )  # fmt: skip
    return done.retval != 0


def in_two_buffers(length: int) -> bytes:
    """A struct xdp_md for a packet of which only a part is in the first buffer."""
    return struct.pack("<6I", 0, length, 0, 0, 0, 0)
