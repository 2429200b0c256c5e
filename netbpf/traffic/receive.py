"""The receiving end of ``send --expect``: counts in the kernel what arrives of what was sent."""

import errno
import socket
import struct
import threading
import time
from contextlib import ExitStack
from typing import Final, Self

from netbpf._sys import bpf as sys_bpf
from netbpf._sys.capabilities import Capability, permission_error
from netbpf._sys.fd import Fd
from netbpf.bpf.map import possible_cpus
from netbpf.constants import AttachType, MapType, ProgType
from netbpf.errors import KernelError, NetbpfError, NotSupportedError
from netbpf.net.netns import Namespace
from netbpf.traffic import receive_code as code
from netbpf.traffic.model import Arrivals
from netbpf.traffic.outlet import Outlet
from netbpf.traffic.stamp import Session

_SO_ATTACH_BPF: Final = 50
_SOL_PACKET: Final = 263
_ADD_MEMBERSHIP: Final = 1
_PROMISCUOUS: Final = struct.Struct("iHH8s")  # struct packet_mreq
_ETH_P_ALL: Final = 3
_LOOK: Final = 0.01  # seconds


class Receiver:
    """Counts from the moment it is open. Close it, or use it as a context manager; the interface is as before then."""

    def __init__(self, outlet: Outlet, resources: ExitStack, counts: Fd) -> None:
        """See ``open``."""
        self._outlet, self._resources, self._counts = outlet, resources, counts
        self._cpus = possible_cpus()

    @classmethod
    def open(cls, name: str, namespace: Namespace, session: Session) -> Self:
        """Begin to count on an interface. Raises InterfaceNotFoundError, NetbpfError where it is down,
        PermissionDeniedError, NotSupportedError (Linux 5.12).
        """
        with ExitStack() as stack:
            outlet = stack.enter_context(Outlet.open(name, namespace))
            try:
                counts, program = _loaded(stack, session)
            except KernelError as error:
                if error.errno in (errno.EPERM, errno.EACCES):
                    raise permission_error(
                        f"count packets on {outlet.name}", Capability.BPF
                    ) from None
                raise
            made = namespace.run(_listening, outlet, program.fileno())
            stack.callback(made.close)
            return cls(outlet, stack.pop_all(), counts)

    def _numbers(self) -> tuple[int, ...]:
        found = sys_bpf.map_lookup(
            self._counts.fileno(), bytes(4), code.VALUE_SIZE * self._cpus
        ) or bytes(code.VALUE_SIZE * self._cpus)
        each = (
            struct.unpack_from("<6Q", found, code.VALUE_SIZE * cpu) for cpu in range(self._cpus)
        )
        return tuple(map(sum, zip(*each, strict=True)))

    def arrivals(self, sent: int, wait: float, stop: threading.Event) -> Arrivals:
        """What has come, once all has, or once nothing more has come for ``wait`` seconds."""
        last, since = self._numbers(), time.monotonic()
        stopped = stop.is_set()
        while last[0] + last[4] < sent and time.monotonic() - since < wait:
            # A stop that comes now ends the waiting; one before ended the sending.
            if stop.is_set() and not stopped:
                break
            time.sleep(_LOOK)
            now = self._numbers()
            if now != last:
                last, since = now, time.monotonic()
        received, size, duplicates, reordered, damaged, merged = last
        lost = max(sent - received - damaged, 0)
        return Arrivals(
            interface=self._outlet.interface.name,
            received=received,
            bytes=size,
            duplicates=duplicates,
            reordered=reordered,
            damaged=damaged,
            merged=merged,
            lost=lost,
            loss_percent=100 * lost / sent if sent else 0.0,
        )

    def trouble(self) -> list[str]:
        """What is wrong with the interface now, by which counting may have ended early."""
        try:
            self._outlet.look(0)
        except NetbpfError as error:
            return [f"{error.message} by now, so not all that arrived may be counted"]
        return []

    def close(self) -> None:
        """Stop counting."""
        self._resources.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _loaded(stack: ExitStack, session: Session) -> tuple[Fd, Fd]:
    counts = stack.enter_context(
        sys_bpf.map_create(MapType.PERCPU_ARRAY, 4, code.VALUE_SIZE, 1, name="netbpf_arrivals")
    )
    window = stack.enter_context(
        sys_bpf.map_create(MapType.ARRAY, 4, 4 * code.WINDOW, 1, name="netbpf_window")
    )
    highest = stack.enter_context(sys_bpf.map_create(MapType.ARRAY, 4, 8, 1, name="netbpf_highest"))
    insns = code.counter(counts.fileno(), window.fileno(), highest.fileno(), session)
    spec = sys_bpf.ProgLoad(ProgType.SOCKET_FILTER, insns, "GPL", "netbpf_expect", AttachType.NONE)
    program, number, _ = sys_bpf.prog_load(spec)
    if program is None:
        if number == errno.EINVAL:
            raise NotSupportedError("this kernel has no atomic exchange in BPF (Linux 5.12)")
        raise KernelError("BPF_PROG_LOAD", number)
    return counts, stack.enter_context(program)


def _listening(outlet: Outlet, program_fd: int) -> socket.socket:
    try:
        # Protocol 0: nothing comes before the filter is there.
        made = socket.socket(socket.AF_PACKET, socket.SOCK_RAW | socket.SOCK_CLOEXEC, 0)
    except PermissionError:
        raise permission_error(f"count packets on {outlet.name}", Capability.NET_RAW) from None
    try:
        made.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_BPF, program_fd)
        made.bind((outlet.interface.name, _ETH_P_ALL))
        # Packets to other MAC addresses are let in, as by tcpdump, until the socket is closed.
        made.setsockopt(
            _SOL_PACKET, _ADD_MEMBERSHIP, _PROMISCUOUS.pack(outlet.interface.index, 1, 0, b"")
        )
    except OSError as error:
        made.close()
        raise outlet.failure(error.errno or 0, 0) from None
    return made
