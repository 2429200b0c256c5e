"""Which packets BPF_PROG_TEST_RUN takes on this kernel: asked of it, with a program that does nothing.

The minimum is ETH_HLEN (net/bpf/test_run.c). The maximum depends on the kernel's version, the size of a page and of a
cache line, and CONFIG_MAX_SKB_FRAGS. Measured on Linux 6.18, x86-64: XDP 14 to 73152 bytes, of which the first 3520 lie
in one piece and so between data and data_end; TC 14 to 3712; metadata up to 216 bytes, in steps of 4.
"""

import functools
from typing import NamedTuple

from netbpf._sys import bpf as sys_bpf
from netbpf._sys.fd import Fd
from netbpf.bpf.insn import EXIT, MOV64_IMM, Insn
from netbpf.constants import AttachType, Hook
from netbpf.errors import KernelError
from netbpf.packets.context import XDP_SIZE, Context

_TYPICAL = 60  # bytes; every kernel takes that
_BEYOND = 1 << 20  # bytes; no kernel takes that
_MOST_QUEUES = 4096  # more than drivers have; asking ends at the first that is missing
_MOST_META = 255  # xdp_metalen_invalid: struct skb_shared_info has a u8 for it


class Limits(NamedTuple):
    """Sizes of packets that are taken, in bytes; ``meta`` is the longest XDP metadata, 0 before Linux 5.15."""

    minimum: int
    maximum: int
    meta: int = 0


@functools.cache
def limits(hook: Hook) -> Limits:
    """Ask the kernel. Loads a program of two instructions and lets go of it."""
    with _nothing(hook) as fd:

        def takes(size: int, meta: int = 0) -> bool:
            context = Context(meta=bytes(meta)).xdp_md(size) if meta else b""
            try:
                sys_bpf.prog_test_run(
                    fd.fileno(), bytes(meta + size),
                    context=context, context_out_size=XDP_SIZE if meta else 0,
                )  # fmt: skip
            except KernelError:
                return False
            return True

        minimum = next(size for size in range(_TYPICAL + 1) if takes(size))
        low, high = _TYPICAL, _BEYOND
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if takes(middle) else (low, middle)
        steps = range(4, _MOST_META, 4) if hook is Hook.XDP else ()
        return Limits(
            minimum, low, max((meta for meta in steps if takes(_TYPICAL, meta)), default=0)
        )


def rx_queues(ifindex: int) -> int:
    """How many receive queues of an interface TEST_RUN takes, from number 0 on."""
    with _nothing(Hook.XDP) as fd:
        for queue in range(_MOST_QUEUES):
            context = Context(ifindex=ifindex, rx_queue=queue).xdp_md(_TYPICAL)
            try:
                sys_bpf.prog_test_run(fd.fileno(), bytes(_TYPICAL), context=context)
            except KernelError:
                return queue
    return _MOST_QUEUES


def _nothing(hook: Hook) -> Fd:
    """A program that returns 0."""
    xdp = hook is Hook.XDP
    request = sys_bpf.ProgLoad(
        prog_type=hook.prog_type,
        insns=Insn(MOV64_IMM).pack() + Insn(EXIT).pack(),
        license="GPL",
        name="netbpf_nothing",
        expected_attach_type=AttachType.XDP if xdp else AttachType.NONE,
    )
    fd, number, _ = sys_bpf.prog_load(request)
    if fd is None:
        raise KernelError("BPF_PROG_LOAD", number)
    return fd
