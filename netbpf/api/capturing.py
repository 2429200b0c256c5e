"""Packets with the verdict they got."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from netbpf.api.common import LOCK_TIMEOUT
from netbpf.constants import Hook

if TYPE_CHECKING:
    from netbpf.net.netns import Namespace
    from netbpf.tap.session import Capture


def capture(
    interface: str,
    filter: str = "",  # noqa: A002 - the word of tcpdump
    hooks: tuple[Hook, ...] = tuple(Hook),
    *,
    member: str = "",
    verdicts: Sequence[str] = (),
    snaplen: int = 65_535,
    buffer: int = 16,
    mode: str | None = None,
    netns: str | Namespace | None = None,
    lock_timeout: float = LOCK_TIMEOUT,
) -> Capture:
    """Packets at a hook with what became of them, as they come; a context manager to iterate over.

    >>> with netbpf.capture("eth0", "udp port 53", verdicts=["drop"]) as packets:  # doctest: +SKIP
    ...     for packet in packets:
    ...         print(packet.verdict_name, packet.member, packet.data.hex())

    ``filter`` is an expression of pcap-filter(7); ``member`` one of a chain, of which its own verdict is taken;
    ``snaplen`` in bytes, ``buffer`` in MiB. ``Capture.stop`` ends it, from any thread; ``Capture.summary`` has the
    counts. The hook goes back to what it was when the block ends, or the process.

    Raises HookBusyError for a foreign program on the hook and while a change waits for its confirmation,
    NotAttachedError for an unknown member, UsageError for a filter that libpcap cannot compile, NotSupportedError for
    one that is too large, ToolMissingError without libpcap, InterfaceNotFoundError, NamespaceNotFoundError,
    PermissionDeniedError, LockTimeoutError.
    """
    from netbpf.tap.model import CaptureRequest
    from netbpf.tap.session import Capture

    request = CaptureRequest(
        interface, hooks, filter, member, tuple(verdicts), snaplen, buffer, mode, lock_timeout
    )
    return Capture(request, netns)
