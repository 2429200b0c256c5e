"""What running programs count and hold: read and written."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

from netbpf.api.hooks import status

if TYPE_CHECKING:
    from netbpf.bpf.btf.encode import Encodable
    from netbpf.bpf.btf.values import Value
    from netbpf.live.model import HookStats
    from netbpf.live.reader import HookReader
    from netbpf.net.netns import Namespace


def stats(
    interface: str,
    *,
    netns: str | Namespace | None = None,
    limit: int | None = 1000,
    per_cpu: bool = False,
) -> list[HookStats]:
    """What the programs on an interface counted; ``limit`` is the number of entries read of each map (None: all)."""
    from netbpf.live.reader import read_hooks

    return read_hooks(status(interface, netns=netns), limit=limit, parts=per_cpu)


@contextmanager
def watch(interface: str, *, netns: str | Namespace | None = None) -> Iterator[list[HookReader]]:
    """The programs on an interface kept open, to be read (``HookReader.read``) again and again."""
    from netbpf.live.reader import HookReader

    with ExitStack() as stack:
        attachments = status(interface, netns=netns)
        yield [stack.enter_context(HookReader(one)) for one in attachments]


def get(interface: str, name: str, *, netns: str | Namespace | None = None) -> Value:
    """A variable (``counter``, ``cfg.port``, ``ports[2]``), a map entry (``rules[10.0.0.0/8]``) or a whole map.

    Raises ObjectError for unknown names (with near ones), UsageError where several programs have it.
    """
    from netbpf.live.access import Access

    with Access(status(interface, netns=netns), interface) as access:
        return access.get(name)


def set_values(
    interface: str,
    changes: Sequence[str] | Mapping[str, Encodable],
    *,
    netns: str | Namespace | None = None,
) -> None:
    """Write variables and map entries of running programs; all are checked before the first is written.

    Raises NotSupportedError for frozen ``.rodata``, UsageError for values that do not fit, ObjectError.
    """
    from netbpf.live.access import Access

    with Access(status(interface, netns=netns), interface) as access:
        access.set(changes)
