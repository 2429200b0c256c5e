"""What is to be sent, and what came of it."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from netbpf.net.netns import Namespace

DEFAULT_RATE: Final = 1000.0  # packets per second, where nothing says otherwise
MAX_FRAMES: Final = (
    1 << 18
)  # different packets kept in memory: of a list, of a capture with --xdp or --sequence
MAX_BYTES: Final = 1 << 28  # of those together
WAIT: Final = 1.0  # seconds without a packet, after which the rest counts as lost


@dataclass(frozen=True, slots=True)
class SendRequest:
    """What ``netbpf send`` was asked for.

    Either ``frames``, sent in turn, or ``capture``, a path or "-". ``count`` packets are sent in all (0: until it is
    stopped; None: each frame once, or the capture ``loops`` times, 0: without end). ``rate`` is in packets per second,
    0 as fast as it goes, None: recorded times for a capture, ``DEFAULT_RATE`` for frames; ``speed`` divides recorded
    times. ``expect`` is the receiving interface, in the namespace ``expect_netns`` (None: that of the sender).
    """

    interface: str
    frames: tuple[bytes, ...] = ()
    capture: str | None = None
    netns: "str | Namespace | None" = None
    count: int | None = None
    loops: int = 1
    rate: float | None = None
    speed: float = 1.0
    xdp: bool = False
    batch: int = 64
    bypass: bool = False
    sequence: bool = False
    expect: str | None = None
    expect_netns: "str | Namespace | None" = None
    wait: float = WAIT


@dataclass(frozen=True, slots=True)
class Arrivals:
    """What came to the receiving interface. ``received`` counts each packet once.

    ``damaged`` packets have a number or a payload that was not sent so; ``merged`` were glued together by GRO before
    they could be counted.
    """

    interface: str
    received: int
    bytes: int
    duplicates: int
    reordered: int
    damaged: int
    merged: int
    lost: int
    loss_percent: float

    @property
    def whole(self) -> bool:
        """Whether everything arrived as it was sent."""
        return not self.lost and not self.damaged


@dataclass(frozen=True, slots=True)
class SendResult:
    """What was sent. ``way`` is "raw" or "xdp"; ``rate`` what was asked for, 0: as fast as it goes.

    ``sent`` packets were taken by the kernel (raw) or by the driver (xdp), ``bytes`` of frames; ``dropped`` were handed
    over and refused by the driver (xdp). ``waits`` is how often the interface's queue was full and sending waited for
    it; ``skipped`` counts packets that could not be sent, by reason. ``interface_dropped`` is how many packets the
    interface counted as dropped meanwhile, whoever sent them. ``behind`` says that the rate could not be held.
    """

    interface: str
    way: str
    sent: int
    bytes: int
    dropped: int
    seconds: float
    rate: float | None
    waits: int
    behind: bool
    skipped: dict[str, int]
    interface_dropped: int
    stopped: bool
    arrivals: Arrivals | None = None
    warnings: tuple[str, ...] = ()

    @property
    def packets_per_second(self) -> float:
        """The mean rate, 0 where nothing took any time."""
        return self.sent / self.seconds if self.seconds > 0 else 0.0

    @property
    def bits_per_second(self) -> float:
        """The mean rate in bits of frames, without preamble, check sequence and gap."""
        return 8 * self.bytes / self.seconds if self.seconds > 0 else 0.0
