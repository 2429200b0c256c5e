"""Programs on hooks: attach, detach, confirm, status."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Self

from netbpf.api.common import LOCK_TIMEOUT, HookName, StrPath, hook_of, hooks_of, paths
from netbpf.constants import Hook
from netbpf.errors import (
    HookBusyError,
    InterfaceNotFoundError,
    NetbpfError,
    NotAttachedError,
)

if TYPE_CHECKING:
    from netbpf.bpf.btf.encode import Encodable
    from netbpf.bpf.btf.values import Value
    from netbpf.compiler.result import Options
    from netbpf.live.model import HookStats
    from netbpf.manager.confirm import Confirmed
    from netbpf.manager.detach import Detached
    from netbpf.manager.pending_list import Waiting
    from netbpf.manager.request import AttachResult
    from netbpf.manager.settings import MapSizes, Settings
    from netbpf.model import Attachment
    from netbpf.net.netns import Namespace


class Attached:
    """What one ``attach`` put on one or more interfaces. As a context manager it detaches on exit."""

    def __init__(self, results: list[AttachResult], namespace: Namespace) -> None:
        """Take over ``namespace``, which has to be open until everything is detached."""
        self.results = results
        self._namespace = namespace

    @property
    def attachments(self) -> list[Attachment]:
        """The attachments that succeeded."""
        return [one.attachment for one in self.results if one.attachment]

    @property
    def errors(self) -> list[NetbpfError]:
        """Why others did not: only with several interfaces that were not asked for atomically."""
        return [one.error for one in self.results if one.error]

    @property
    def program_id(self) -> int:
        """The kernel's id of the program; all interfaces of one attach share it."""
        return self.attachments[0].program.id

    def stats(self, *, limit: int | None = 1000, per_cpu: bool = False) -> list[HookStats]:
        """Counters, variables and maps, one per attachment."""
        from netbpf.live.reader import read_hooks

        return read_hooks(self.attachments, limit=limit, parts=per_cpu)

    def get(self, name: str) -> Value:
        """A variable, map entry or map by name, as the function ``get`` does."""
        from netbpf.live.access import Access

        with Access(self.attachments, self._interface) as access:
            return access.get(name)

    def set_values(self, changes: Sequence[str] | Mapping[str, Encodable]) -> None:
        """Write variables and map entries, as the function ``set_values`` does."""
        from netbpf.live.access import Access

        with Access(self.attachments, self._interface) as access:
            access.set(changes)

    @property
    def _interface(self) -> str:
        return self.attachments[0].occupant.interface.name if self.attachments else "?"

    def detach(self) -> None:
        """Take everything off; what is gone already is fine. What waits for a confirmation goes back."""
        self._undo()
        from netbpf.manager.detach import DetachRequest
        from netbpf.manager.detach import detach as run

        with self._namespace as namespace:
            for result in self.results:
                if result.attachment is None:
                    continue
                hooks = (result.attachment.occupant.hook,)
                for one in result.attachment.members:
                    if one.name in result.added:
                        run(
                            DetachRequest(
                                hooks, result.interface.name, missing_ok=True, member=one.name,
                                added_at=one.added_at,
                            ),
                            namespace,
                        )  # fmt: skip
        self.results = []

    def _undo(self) -> None:
        waiting = next((one for one in self.results if one.pending and one.attachment), None)
        if waiting is None or waiting.attachment is None:
            return
        from netbpf.manager.confirm import ConfirmRequest
        from netbpf.manager.confirm import confirm as run

        request = ConfirmRequest(
            waiting.interface.name, (waiting.attachment.occupant.hook,), undo=True
        )
        # It may have been confirmed, or gone back, or the interface is gone.
        with suppress(NotAttachedError, HookBusyError, InterfaceNotFoundError):
            run(request, self._namespace)

    def close(self) -> None:
        """Keep everything attached, and let go of the namespace."""
        self._namespace.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.detach()


def attach(
    hook: HookName,
    interfaces: str,
    object: StrPath | Sequence[StrPath],  # noqa: A002 - the field's word
    *,
    program: str | None = None,
    mode: str | None = None,
    settings: Settings = (),
    map_sizes: MapSizes = (),
    redirects: Sequence[str] = (),
    share: Sequence[str] = (),
    maps: Sequence[str] = (),
    tail_calls: Sequence[str] = (),
    replace: bool = False,
    link: bool = False,
    atomic: bool = False,
    name: str | None = None,
    priority: int | None = None,
    proceed_on: Sequence[str] | None = None,
    pref: int | None = None,
    pin_maps: StrPath | None = None,
    netns: str | Namespace | None = None,
    compiler: Options | None = None,
    kernel_btf: StrPath | None = None,
    confirm: float | None = None,
    lock_timeout: float = LOCK_TIMEOUT,
) -> Attached:
    """Attach programs to a hook of one interface, a list (``eth0,eth1``) or a glob (``veth*``).

    ``object`` is an object file, a C source, or ``builtin:NAME``, or several of them. Where netbpf runs something
    already, they join it: each is a member, called ``name`` or after its program, with a ``priority`` (default 50,
    lower runs first) and the verdicts that hand the packet on (``proceed_on=["pass", "tx"]``; by default pass for
    XDP, unspec and pipe for TC). ``replace`` swaps netbpf's only program instead. ``pref`` is the priority of a
    clsact filter, to run beside foreign ones. ``mode`` is native (the default), skb, hw or
    auto, for XDP only. ``settings`` are values of global variables, as typed (``["limit=5"]``) or as Python values
    (``{"limit": 5}``). ``map_sizes`` sets how many entries maps have (``["flows=65536"]`` or ``{"flows": 65536}``).
    ``share`` and ``maps`` put maps that exist in the place of an object's: another member's
    (``["flows=eth0/xdp/acl"]``), or by pin or id (``["flows=pinned:/sys/fs/bpf/flows", "flows=id:12"]``).
    ``tail_calls`` fills prog arrays: ``["jumps[1]=parse_udp"]``.
    ``redirects`` fills devmaps and cpumaps: ``["tx[0]=eth1:program", "cpus[*]=1024"]``, with programs to run there.
    ``pin_maps`` is a directory in a bpffs, by which maps that ask to be pinned by name are
    shared; without it each attach has its own. The program stays attached when the process ends, unless the result
    is used as a context manager; with ``confirm`` it goes back after so many seconds (0.1 to 86400) unless
    ``confirm()`` is called, whatever becomes of this process.

    Raises ObjectError, CompileError, VerifierError, NotSupportedError, HookBusyError, InterfaceNotFoundError,
    PermissionDeniedError, LockTimeoutError, UsageError.
    """
    from netbpf.compiler.result import Options
    from netbpf.manager.attach import attach as run
    from netbpf.manager.request import AttachRequest
    from netbpf.manager.status import opened

    request = AttachRequest(
        hook=hook_of(hook),
        interfaces=interfaces,
        objects=paths(object),
        program=program,
        mode=mode,
        settings=settings,
        map_sizes=map_sizes,
        redirects=tuple(redirects),
        share=tuple(share),
        maps=tuple(maps),
        tail_calls=tuple(tail_calls),
        replace=replace,
        link=link,
        atomic=atomic,
        name=name,
        priority=priority,
        proceed_on=tuple(proceed_on) if proceed_on is not None else None,
        pref=pref,
        pin_maps=Path(pin_maps) if pin_maps else None,
        compiler=compiler or Options(),
        kernel_btf=Path(kernel_btf) if kernel_btf else None,
        confirm=confirm,
        lock_timeout=lock_timeout,
    )
    with opened(netns) as namespace:
        return Attached(run(request, namespace), namespace.duplicate())


def confirm(
    interface: str | None = None,
    hook: HookName | tuple[Hook, ...] | None = None,
    *,
    everything: bool = False,
    undo: bool = False,
    netns: str | Namespace | None = None,
    lock_timeout: float = LOCK_TIMEOUT,
) -> list[Confirmed]:
    """Keep a change that was made with ``confirm=SECONDS``, or go back now with ``undo``.

    Without arguments the one that waits in the namespace. ``hook`` "tc" means both directions, None all hooks. What
    one call changed on several interfaces is confirmed as a whole. Raises HookBusyError for what has gone back
    already, NotAttachedError where nothing waits, UsageError where several do and ``everything`` is not set,
    InterfaceNotFoundError, LockTimeoutError.
    """
    from netbpf.manager.confirm import ConfirmRequest
    from netbpf.manager.confirm import confirm as run

    return run(ConfirmRequest(interface, hooks_of(hook), everything, undo, lock_timeout), netns)


def pending(
    interface: str | None = None, *, netns: str | Namespace | None = None, all_netns: bool = False
) -> Waiting:
    """Changes that wait for their confirmation (``pending``), and those that went back within a day (``went_back``)."""
    from netbpf.manager.pending_list import waiting

    return waiting(interface, netns=netns, all_netns=all_netns)


def detach(
    interface: str | None = None,
    hook: HookName | tuple[Hook, ...] | None = None,
    *,
    everything: bool = False,
    force: bool = False,
    missing_ok: bool = False,
    prog_id: int | None = None,
    member: str | None = None,
    confirm: float | None = None,
    netns: str | Namespace | None = None,
    lock_timeout: float = LOCK_TIMEOUT,
) -> list[Detached]:
    """Take programs off their hooks: what netbpf attached, with ``force`` also what others did.

    ``member`` is the name of one of a chain: the others run on. ``hook`` "tc" means both directions, None all hooks;
    ``prog_id`` is the kernel's id of the program, where several are on a hook. With ``confirm`` they come back after
    so many seconds unless ``confirm()`` is called. What is gone with its interface or
    namespace counts as detached. Raises NotAttachedError (not with ``missing_ok``), NotManagedError, UsageError if
    more than one is meant and ``everything`` is not, HookBusyError, PermissionDeniedError, LockTimeoutError.
    """
    from netbpf.manager.detach import DetachRequest
    from netbpf.manager.detach import detach as run

    request = DetachRequest(
        hooks_of(hook), interface, everything, force, missing_ok, prog_id, member, confirm=confirm,
        lock_timeout=lock_timeout,
    )  # fmt: skip
    return run(request, netns)


def status(
    interface: str | None = None, *, netns: str | Namespace | None = None, all_netns: bool = False
) -> list[Attachment]:
    """Every XDP, clsact and TCX program, by interface and in running order.

    Raises InterfaceNotFoundError, NamespaceNotFoundError, PermissionDeniedError.
    """
    from netbpf.manager.status import status as run

    return run(interface, netns=netns, all_netns=all_netns)
