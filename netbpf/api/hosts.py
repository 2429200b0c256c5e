"""What this host can do for eBPF, and what is in the way."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from netbpf.host.features import Features
    from netbpf.host.finding import Report
    from netbpf.host.having import Has
    from netbpf.net.netns import Namespace


def features() -> Features:
    """What this kernel has of BPF: program types, map types, helpers, kernel functions, ways to attach.

    The kernel is asked when a part is read, and each part once; nothing is guessed from its version. A context manager:

    >>> with features() as here:  # doctest: +SKIP
    ...     here.map_types["ringbuf"].here, here.helpers("xdp")["bpf_xdp_load_bytes"].here

    Raises PermissionDeniedError without CAP_BPF.
    """
    from netbpf.host.features import Features

    return Features()


def has(names: str | Sequence[str], *, program_type: str | None = None) -> list[Has]:
    """Whether this kernel has what is named, as ``netbpf features --has``; ``here`` of each is True, False or None.

    Raises PermissionDeniedError, UsageError for a program type that the kernel does not name.
    """
    from netbpf.host.features import Features
    from netbpf.host.having import has as ask

    wanted = [names] if isinstance(names, str) else names
    with Features() as found:
        return [one for name in wanted for one in ask(found, name, program_type)]


def doctor(
    interface: str | None = None, *, netns: str | Namespace | None = None, repair: bool = False
) -> Report:
    """Check the host, and an interface: what is ok, what is not, and the commands that help.

    ``repair`` first clears away what interrupted operations of netbpf left. Raises InterfaceNotFoundError,
    NamespaceNotFoundError, LockTimeoutError.
    """
    from netbpf.host.doctor import examine

    if repair:
        from netbpf.host.leftovers import clear

        clear(netns)
    return examine(interface, netns=netns)
