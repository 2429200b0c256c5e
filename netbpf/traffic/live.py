"""Sending as XDP frames: past sockets, queues and copies, millions of packets a second."""

import errno
import mmap
import struct
import threading
import time
from contextlib import ExitStack
from typing import Final, Self

from netbpf._sys import bpf as sys_bpf
from netbpf._sys.capabilities import Capability, permission_error
from netbpf._sys.fd import Fd
from netbpf.constants import AttachType, MapFlag, MapType, ProgType
from netbpf.errors import (
    KernelError,
    NetbpfError,
    NotSupportedError,
    PermissionDeniedError,
    UsageError,
)
from netbpf.net.netns import Namespace
from netbpf.text import word
from netbpf.traffic import live_code
from netbpf.traffic.live_code import LONGEST, STATE_SIZE, Table
from netbpf.traffic.outlet import Outlet
from netbpf.traffic.pace import Pace
from netbpf.traffic.stamp import Session

_LIVE: Final = 2  # BPF_F_TEST_XDP_LIVE_FRAMES
# A call is as long as a stop may take to be seen. It costs 10 us, a new page pool; and 25 to 45 ms more where the
# program could not be held (measured).
_CALL_SECONDS, _CALL_SECONDS_UNHELD = 0.1, 0.25
_LEAST, _MOST_PER_CALL = 1 << 16, 1 << 22  # packets
_LOOPBACK: Final = 1  # ifindex of lo in every namespace, LOOPBACK_IFINDEX
_SKB_MODE: Final = 2  # XDP_FLAGS_SKB_MODE
_FIRST: Final = 256  # packets of the first call, by which one sees whether the driver takes any
_ENTRY: Final = struct.Struct("<IIII")
_STATE: Final = struct.Struct("<8Q")
_MOST_BATCH: Final = 256  # TEST_XDP_MAX_BATCH
_SHORTEST: Final = 14


class LiveSender:
    """Sends through BPF_PROG_TEST_RUN. ``sent`` is what the driver took, ``dropped`` what it did not.

    ``exact`` is False where the tracepoints may not be used: then all that was made counts as sent.
    """

    def __init__(self, outlet: Outlet, total: int, batch: int, sizes: list[int]) -> None:
        """See ``open``."""
        self.sent = self.bytes = self.waits = self.dropped = 0
        self.exact = False
        self._outlet, self._total, self._batch, self._sizes = outlet, total, batch, sizes
        self._resources = ExitStack()
        self._state: mmap.mmap
        self._program: Fd
        self._made = self._error = 0
        self._call_seconds = _CALL_SECONDS_UNHELD

    @classmethod
    def open(
        cls,
        outlet: Outlet,
        frames: list[bytes],
        stamps: list[int] | None,
        session: Session | None,
        total: int,
        batch: int,
    ) -> Self:
        """Load the programs. Raises PermissionDeniedError, KernelError, UsageError for frames that are too long."""
        if not 1 <= batch <= _MOST_BATCH:
            raise UsageError(f"a batch of {batch}: it takes 1 to {_MOST_BATCH} packets")
        for one in frames:
            if len(one) > LONGEST:
                raise UsageError(
                    f"a packet of {len(one)} bytes: XDP frames have at most {LONGEST}",
                    hint="send it without --xdp",
                )
        made = cls(outlet, total, batch, [len(one) for one in frames])
        try:
            made._load(frames, stamps, session)
        except KernelError as error:
            made.close()
            if error.errno == errno.EPERM:
                raise permission_error(
                    "send XDP frames", Capability.BPF, Capability.NET_ADMIN
                ) from None
            raise
        except BaseException:
            made.close()
            raise
        return made

    def _load(self, frames: list[bytes], stamps: list[int] | None, session: Session | None) -> None:
        state = self._map(STATE_SIZE, "netbpf_send")
        self._state = mmap.mmap(state.fileno(), mmap.PAGESIZE)
        self._resources.callback(self._state.close)
        content, table = _laid_out(frames or [bytes(_SHORTEST)], stamps)
        packets = self._map(len(content), "netbpf_frames")
        sys_bpf.map_update(packets.fileno(), bytes(4), content)
        code = live_code.generator(
            state.fileno(), packets.fileno(), table, self._outlet.interface.index, session
        )
        self._program = self._loaded(ProgType.XDP, code, "netbpf_send", AttachType.XDP)
        self._watch(state.fileno())
        if self._total > 1:
            self._hold()

    def _hold(self) -> None:
        """Keep the program among those that the kernel calls without a retpoline, its dispatcher's.

        Every BPF_PROG_TEST_RUN of more than one frame puts the program there and takes it out again, and waits each
        time until no processor can be in what was there before (bpf_dispatcher_update, synchronize_rcu). One that is
        attached stays there, wherever that is: on lo of a namespace that nobody else has, where no packet comes by.
        Without CAP_SYS_ADMIN for that each call takes its time.
        """
        try:
            room = self._resources.enter_context(Namespace.create())
            link = room.run(
                sys_bpf.link_create,
                self._program.fileno(),
                _LOOPBACK,
                AttachType.XDP,
                flags=_SKB_MODE,
            )
        except (KernelError, PermissionDeniedError):
            return
        self._resources.enter_context(link)
        self._call_seconds = _CALL_SECONDS

    def _map(self, size: int, name: str) -> Fd:
        made = sys_bpf.map_create(MapType.ARRAY, 4, size, 1, flags=MapFlag.MMAPABLE, name=name)
        return self._resources.enter_context(made)

    def _loaded(self, kind: ProgType, code: bytes, name: str, attach: AttachType) -> Fd:
        program, number, _ = sys_bpf.prog_load(sys_bpf.ProgLoad(kind, code, "GPL", name, attach))
        if program is None:
            raise KernelError("BPF_PROG_LOAD", number)
        return self._resources.enter_context(program)

    def _watch(self, state: int) -> None:
        """Count what the driver does. Not being allowed to (CAP_PERFMON) is no reason not to send."""
        try:
            for name, code in (
                ("xdp_devmap_xmit", live_code.transmitted(state)),
                ("xdp_redirect_err", live_code.refused(state)),
            ):
                program = self._loaded(
                    ProgType.RAW_TRACEPOINT, code, "netbpf_sent", AttachType.NONE
                )
                self._resources.enter_context(sys_bpf.raw_tracepoint_open(program.fileno(), name))
        except KernelError as error:
            if error.errno not in (errno.EPERM, errno.EACCES, errno.ENOENT, errno.EINVAL):
                raise
            return
        self.exact = True

    @property
    def remark(self) -> str:
        """What has to be said about the counts."""
        if self.exact:
            return ""
        return "what the driver drops is not counted: that takes CAP_PERFMON and tracepoints of XDP"

    def run(self, pace: Pace, stop: threading.Event) -> None:
        """Send. Raises NetbpfError where the driver takes nothing, KernelError."""
        self._outlet.namespace.run(self._run, pace, stop)

    def _run(self, pace: Pace, stop: threading.Event) -> None:
        most = _FIRST
        data = bytes(self._sizes[0] if self._sizes else _SHORTEST)
        while self._made < self._total and not stop.is_set():
            allowed = pace.allowed(self._made)
            if allowed <= 0:
                pace.wait(self._made, stop)
                continue
            count = min(allowed, self._total - self._made, most)
            begin = time.monotonic()
            self._call(data, count)
            seconds = time.monotonic() - begin
            self._read()
            if self.exact and not self.sent:
                raise self._nothing()
            fitting = int(count * self._call_seconds / max(seconds, 1e-6))
            most = min(max(fitting, _LEAST), _MOST_PER_CALL, 256 * count)

    def _call(self, data: bytes, count: int) -> None:
        try:
            sys_bpf.prog_test_run(
                self._program.fileno(), data, repeat=count, flags=_LIVE,
                batch_size=min(self._batch, count),
            )  # fmt: skip
        except KernelError as error:
            if error.errno == errno.EINTR:
                return
            if error.errno == errno.EINVAL:
                raise NotSupportedError(
                    "this kernel has no live XDP frames (Linux 5.18)", hint="send without --xdp"
                ) from None
            raise

    def _read(self) -> None:
        made, _, _, _, sent, dropped, lost, error = _STATE.unpack_from(self._state)
        self._made, self._error = made, error
        self.sent = sent if self.exact else made
        self.dropped = dropped + lost if self.exact else 0
        rounds, rest = divmod(self.sent, len(self._sizes))
        # Of several lengths: those of the first frames, as if the driver had dropped none between them.
        self.bytes = rounds * sum(self._sizes) + sum(self._sizes[:rest])

    def _nothing(self) -> NetbpfError:
        """Why the driver has taken nothing at all."""
        number = -self._error & 0xFFFFFFFF
        if number in (errno.ENXIO, errno.EOPNOTSUPP):
            peer = self._outlet.look(0)
            if peer.kind == "veth":
                return NotSupportedError(
                    f"{self._outlet.name} takes no XDP frames: a veth does if its other end has an XDP program, or GRO",
                    hint="at the other end: ethtool -K IFACE gro on",
                )
            return NotSupportedError(
                f"the driver of {word(self._outlet.interface.name)} takes no XDP frames",
                hint="send without --xdp",
            )
        if number:
            return self._outlet.failure(number, 0)
        return NetbpfError(
            f"{self._outlet.name} dropped every one of {self._made:,} XDP frames",
            hint="ethtool -S shows why, where its driver says so",
        )

    def close(self) -> None:
        """Let go of programs and maps."""
        self._resources.close()


def _laid_out(frames: list[bytes], stamps: list[int] | None) -> tuple[bytes, Table]:
    """The content of the frames' map, and where things are in it."""
    places = stamps or [0] * len(frames)
    content = bytearray()
    entries = bytearray()
    for frame, place in zip(frames, places, strict=True):
        content += bytes(-(len(content) + place) % 8)  # numbers are written 8 bytes at a time
        entries += _ENTRY.pack(len(content), len(frame), place, 0)
        content += frame
    size = len(content)
    content += bytes(4096 + -size % 16)  # whatever the length, the verifier sees the end
    index = len(content)
    content += entries
    content += bytes(-len(content) % 8)
    return bytes(content), Table(
        len(frames), index, size, uniform=len({len(one) for one in frames}) == 1
    )
