"""What goes wrong on interfaces, as it does."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from netbpf.listen.monitor import Drops, Monitor
    from netbpf.net.netns import Namespace


def monitor(
    interface: str | None = None,
    *,
    netns: str | Namespace | None = None,
    all_netns: bool = False,
    drops: Drops = "programs",
) -> Monitor:
    """Watch XDP exceptions, failed redirects, packets that could not be sent, and drops by reason.

    Of one interface, a network namespace, or all of them. ``drops`` chooses packets that the kernel drops: those of
    interfaces with a program, of all (``"all"``), or none. Counts are exact, whatever the rate; nothing stays in the
    kernel afterwards.

    >>> with monitor("eth0") as watching:  # doctest: +SKIP
    ...     for one in watching.read().counts:
    ...         print(one.happening.cause, one.packets)

    Raises InterfaceNotFoundError, NamespaceNotFoundError, NotSupportedError (no BTF, or no such tracepoints),
    PermissionDeniedError (CAP_BPF, CAP_PERFMON and CAP_SYS_ADMIN), UsageError.
    """
    from netbpf.listen.monitor import Monitor

    return Monitor(interface, netns=netns, all_netns=all_netns, drops=drops)
