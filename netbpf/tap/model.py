"""What a capture is asked for, and what it gives."""

from dataclasses import dataclass
from typing import Final, NamedTuple

from netbpf.bpf.tap.place import LARGEST
from netbpf.constants import Hook
from netbpf.errors import UsageError
from netbpf.state.lock import DEFAULT_TIMEOUT

SNAPLEN: Final = 65_535
BUFFER: Final = 16  # MiB
_LARGEST_BUFFER: Final = 1024  # MiB; a ring buffer's memory is mapped twice


@dataclass(frozen=True, slots=True)
class CaptureRequest:
    """One capture.

    ``hooks`` narrow what is meant where several run programs. ``filter`` is an expression of pcap-filter(7). With a
    ``member`` it is about what came to that and what it said, without one about what came to the hook and became of
    it. ``verdicts`` are names, () for all. ``snaplen`` is in bytes, ``buffer`` in MiB, a power of two. ``mode`` is that
    of an XDP hook where nothing runs yet.
    """

    interface: str
    hooks: tuple[Hook, ...] = tuple(Hook)
    filter: str = ""
    member: str = ""
    verdicts: tuple[str, ...] = ()
    snaplen: int = SNAPLEN
    buffer: int = BUFFER
    mode: str | None = None
    lock_timeout: float = DEFAULT_TIMEOUT

    def __post_init__(self) -> None:
        if not 1 <= self.snaplen <= LARGEST:
            raise UsageError(f"a snaplen of {self.snaplen} bytes", hint=f"give 1 to {LARGEST}")
        if not 1 <= self.buffer <= _LARGEST_BUFFER or self.buffer & (self.buffer - 1):
            raise UsageError(
                f"a buffer of {self.buffer} MiB",
                hint=f"give a power of two from 1 to {_LARGEST_BUFFER}",
            )


class CapturedPacket(NamedTuple):
    """A packet as it came, and what became of it.

    ``time_ns`` is Unix time of its coming in nanoseconds, ``length`` its bytes on the wire, ``data`` those that were
    kept, with the VLAN tag that the kernel keeps beside packets in TC. ``verdict`` is the kernel's number and
    ``verdict_name`` its word, ``member`` the member whose verdict it is, "" where no member ran. ``queue`` is the one
    it came in by, 0 where TC does not say.
    """

    time_ns: int
    length: int
    data: bytes
    verdict: int
    verdict_name: str
    member: str
    ifindex: int
    queue: int


@dataclass(frozen=True, slots=True)
class CaptureSummary:
    """What a capture has counted, exactly, in the kernel.

    ``seen`` are the packets that came, ``matched`` those that passed the filter, ``verdicts`` what became of these.
    ``captured`` are those that were read; ``lost`` those for which the buffer had no room; ``nested`` those that came
    in the midst of too many others on one CPU, and were not kept. ``ended`` says why it ended by itself.
    """

    seen: int
    matched: int
    captured: int
    lost: int
    nested: int
    verdicts: dict[str, int]
    ended: str = ""
