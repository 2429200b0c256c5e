"""Why TEST_RUN did not take a packet: EINVAL alone has a dozen meanings (kernel net/bpf/test_run.c)."""

import errno
import socket
from typing import Final

from netbpf._sys.capabilities import Capability, permission_error
from netbpf.constants import Hook
from netbpf.errors import (
    InterfaceNotFoundError,
    KernelError,
    NetbpfError,
    NotSupportedError,
    UsageError,
)
from netbpf.packets.context import Context
from netbpf.packets.limits import Limits, limits, rx_queues
from netbpf.text import escape

_ENOTSUPP: Final = 524  # the kernel's own (include/linux/errno.h)
_GSO_MAX_SEGS: Final = 65535  # include/linux/netdevice.h
# bpf_prog_test_run_skb looks into these headers itself. Measured on Linux 6.18; older kernels let shorter ones pass.
_HEADERS: Final = {b"\x08\x00": ("IPv4", 34), b"\x86\xdd": ("IPv6", 54)}
_ABOUT_THE_PACKET: Final = (errno.EINVAL, errno.ENOMEM, errno.EMSGSIZE)


def refusal(error: KernelError, hook: Hook, packet: bytes, context: Context) -> NetbpfError:
    """What to raise for a TEST_RUN that failed."""
    if error.errno in (errno.EPERM, errno.EACCES):
        return permission_error("run a program on a packet", Capability.BPF, Capability.NET_ADMIN)
    if error.errno == errno.ENODEV:
        return InterfaceNotFoundError(
            f"no interface with index {context.ifindex} in this network namespace",
            hint="ip link shows them; --netns chooses the namespace",
        )
    if error.errno == _ENOTSUPP:
        return NotSupportedError("this kernel has no TEST_RUN for programs of this kind")
    if error.errno == errno.EINTR:
        return NetbpfError("the runs were interrupted by a signal")
    if error.errno not in _ABOUT_THE_PACKET:
        return error
    known = limits(hook)
    return _size(known, hook, packet) or _context(known, hook, context) or error


def _size(known: Limits, hook: Hook, packet: bytes) -> NetbpfError | None:
    size = len(packet)
    if size < known.minimum:
        return UsageError(
            f"a packet of {size} bytes cannot be run: TEST_RUN takes no less than {known.minimum}",
            hint="a packet begins with an Ethernet header, of 14 bytes",
        )
    name, needed = _HEADERS.get(packet[12:14], ("", 0))
    if hook is not Hook.XDP and size < needed:
        return NotSupportedError(
            f"a packet of {size} bytes is too short: TEST_RUN takes {name} packets for tc from {needed} bytes on",
            hint="that is their Ethernet and IP header; xdp programs can be run on less",
        )
    if size > known.maximum:
        kind = "xdp" if hook is Hook.XDP else "tc"
        return NotSupportedError(
            f"a packet of {size} bytes is too long: this kernel's TEST_RUN takes {known.maximum} for {kind}"
        )
    return None


def _context(known: Limits, hook: Hook, context: Context) -> NetbpfError | None:
    if hook is not Hook.XDP:
        if context.wire_len:
            return UsageError(
                f"the kernel does not take wire_len {context.wire_len}",
                hint="it is the length of the packet with all its segments, from the packet's own to 65536",
            )
        if context.gso_segs > _GSO_MAX_SEGS:
            return UsageError(f"gso_segs is at most {_GSO_MAX_SEGS}, not {context.gso_segs}")
        return None
    if context.meta:
        size = len(context.meta)
        if not known.meta:
            return NotSupportedError("TEST_RUN with metadata needs Linux 5.15")
        if size % 4:
            return UsageError(f"metadata of {size} bytes: the kernel takes multiples of 4")
        if size > known.meta:
            return NotSupportedError(
                f"metadata of {size} bytes is too long: this kernel's TEST_RUN takes {known.meta}"
            )
    if context.rx_queue and not context.ifindex:
        return UsageError(
            f"rx queue {context.rx_queue} of which interface?", hint="say --ifindex too"
        )
    if context.ifindex:
        return _queue(context)
    return None


def _queue(context: Context) -> NetbpfError:
    name = escape(_name(context.ifindex))
    queues = rx_queues(context.ifindex)
    if queues:
        return UsageError(
            f"{name} has no rx queue {context.rx_queue}",
            hint=f"it has {queues}, counted from 0" if queues > 1 else "it has one, number 0",
        )
    return NotSupportedError(
        f"the kernel does not take rx queue {context.rx_queue} of {name}: it is not registered for XDP",
        hint="drivers register their queues when the interface is brought up",
    )


def _name(ifindex: int) -> str:
    try:
        return socket.if_indextoname(ifindex)
    except OSError:
        return str(ifindex)
