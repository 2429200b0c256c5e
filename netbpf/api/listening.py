"""What programs tell while they run: events and traces."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from netbpf.listen.events import Events
    from netbpf.listen.trace import Trace
    from netbpf.net.netns import Namespace


def events(
    where: int | str,
    *maps: str,
    types: Sequence[str] = (),
    take: bool = False,
    netns: str | Namespace | None = None,
) -> Events:
    """The records of ring and perf buffers, as programs write them; a context manager to iterate over.

    >>> with netbpf.events("eth0") as events:  # doctest: +SKIP
    ...     for event in events:
    ...         print(event.source.name, event.value or event.data)

    ``where`` is an interface, of which all buffers are read or those of ``maps``, or one map by id or path of its pin.
    ``types``: ``NAME``, or ``MAP=NAME``; ``take``: take records that another process reads. ``Events.read`` waits with
    a timeout. Raises NotAttachedError where there is no buffer, ObjectError for unknown maps and types, HookBusyError
    where a perf buffer has a reader, InterfaceNotFoundError, NamespaceNotFoundError, PermissionDeniedError.
    """
    from netbpf.listen.buffers import find
    from netbpf.listen.events import Events

    return Events(find(str(where), maps, netns=netns), types=types, take=take)


def trace(
    interface: str | None = None,
    *,
    program: int | str | None = None,
    netns: str | Namespace | None = None,
) -> Trace:
    """What programs print with bpf_printk(), with program and source line; a context manager to iterate over.

    Of all programs, of those on an interface, or of one ``program``: its id or name, a function, a member of a chain.
    Nothing is taken from other readers. Raises NotAttachedError where there is no program on the interface,
    InterfaceNotFoundError, NamespaceNotFoundError, PermissionDeniedError, NotSupportedError before Linux 5.9.
    """
    from netbpf.insight.choose import parse
    from netbpf.listen.trace import Trace
    from netbpf.manager.status import status

    wanted = None if program is None else parse((str(program),))
    return Trace(lambda: status(interface, netns=netns), interface=interface, program=wanted)
