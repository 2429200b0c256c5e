"""The library: what the commands do, as typed functions. ``from netbpf import attach, status, stats``.

Functions raise NetbpfError and its subclasses (``netbpf.errors``) and print nothing. ``netns`` is a name below
/run/netns, a path, ``pid:NUMBER`` or an open ``Namespace``; None is the calling thread's namespace.

Each operation imports what it needs when it is called: ``status`` does not pay for ``attach``.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Self

from netbpf.constants import Hook
from netbpf.errors import (
    HookBusyError,
    InterfaceNotFoundError,
    NetbpfError,
    NotAttachedError,
    UsageError,
)

if TYPE_CHECKING:
    from netbpf.bpf.btf.encode import Encodable
    from netbpf.bpf.btf.values import Value
    from netbpf.bpf.object import ObjectSpec
    from netbpf.compiler.result import CompileResult, Options
    from netbpf.insight.choose import Wanted
    from netbpf.insight.entries import Entries
    from netbpf.insight.jited import MachineCode
    from netbpf.insight.kernel_model import KernelLink, KernelMap, KernelProgram
    from netbpf.insight.model import ElfHeaders, Listing, ObjectReport
    from netbpf.live.members import ChainCounts
    from netbpf.live.model import HookStats
    from netbpf.live.reader import HookReader
    from netbpf.manager.autopins import CompanionSet
    from netbpf.manager.companions import AutoResult
    from netbpf.manager.confirm import Confirmed
    from netbpf.manager.detach import Detached
    from netbpf.manager.pending_list import Waiting
    from netbpf.manager.request import AttachResult
    from netbpf.manager.settings import MapSizes, Settings
    from netbpf.manager.upgrade import Upgraded
    from netbpf.model import Attachment
    from netbpf.net.netns import Namespace
    from netbpf.packets.cases_model import CaseFile, CaseResult, CasesResult
    from netbpf.packets.context import Context
    from netbpf.packets.diff_model import DiffResult
    from netbpf.packets.replay import Progress
    from netbpf.packets.replay_model import ReplayResult
    from netbpf.packets.run import RunResult

LOCK_TIMEOUT = 30.0  # seconds
StrPath = str | os.PathLike[str]
HookName = Hook | Literal["xdp", "tc", "tc/ingress", "tc/egress"]


def hook_of(name: HookName) -> Hook:
    """The hook of a name; "tc" is "tc/ingress". UsageError for others."""
    if name == "tc":
        return Hook.TC_INGRESS
    try:
        return Hook(name)
    except ValueError:
        raise UsageError(
            f"no hook {name!r}", hint="the hooks are xdp, tc/ingress and tc/egress"
        ) from None


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


def _paths(given: StrPath | Sequence[StrPath]) -> tuple[str, ...]:
    several = [given] if isinstance(given, str | os.PathLike) else given
    return tuple(os.fspath(one) for one in several)


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
        objects=_paths(object),
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

    return run(ConfirmRequest(interface, _hooks(hook), everything, undo, lock_timeout), netns)


def pending(
    interface: str | None = None, *, netns: str | Namespace | None = None, all_netns: bool = False
) -> Waiting:
    """Changes that wait for their confirmation (``pending``), and those that went back within a day (``went_back``)."""
    from netbpf.manager.pending_list import waiting

    return waiting(interface, netns=netns, all_netns=all_netns)


def _hooks(hook: HookName | tuple[Hook, ...] | None) -> tuple[Hook, ...]:
    """What a name stands for where several hooks may be meant."""
    if isinstance(hook, tuple):
        return hook
    if hook is None:
        return tuple(Hook)
    return (Hook.TC_INGRESS, Hook.TC_EGRESS) if hook == "tc" else (hook_of(hook),)


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
        _hooks(hook), interface, everything, force, missing_ok, prog_id, member, confirm=confirm,
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


def chain(
    interface: str | None = None,
    hooks: tuple[Hook, ...] = tuple(Hook),
    *,
    netns: str | Namespace | None = None,
) -> list[ChainCounts]:
    """What netbpf runs on each hook, member by member, with the packets that came to each and its verdicts.

    Raises InterfaceNotFoundError, NamespaceNotFoundError, PermissionDeniedError.
    """
    from netbpf.live.members import read_chains

    found = status(interface, netns=netns)
    return read_chains([one for one in found if one.occupant.hook in hooks])


def set_member(
    interface: str,
    member: str,
    hooks: tuple[Hook, ...] = tuple(Hook),
    *,
    priority: int | None = None,
    proceed_on: Sequence[str] | None = None,
    netns: str | Namespace | None = None,
    lock_timeout: float = LOCK_TIMEOUT,
) -> Attachment:
    """Change the place of a member, or the verdicts with which it hands packets on, in one step while it runs.

    Raises NotAttachedError, NotManagedError, UsageError, HookBusyError, InterfaceNotFoundError,
    PermissionDeniedError, LockTimeoutError.
    """
    from netbpf.manager.chain import SetRequest
    from netbpf.manager.chain import set_member as run

    verdicts = tuple(proceed_on) if proceed_on is not None else None
    return run(SetRequest(interface, member, hooks, priority, verdicts, lock_timeout), netns)


def upgrade(
    interface: str,
    object: StrPath,  # noqa: A002 - the field's word
    member: str | None = None,
    hooks: tuple[Hook, ...] = tuple(Hook),
    *,
    program: str | None = None,
    settings: Settings = (),
    reset: Sequence[str] = (),
    dry_run: bool = False,
    confirm: float | None = None,
    netns: str | Namespace | None = None,
    compiler: Options | None = None,
    lock_timeout: float = LOCK_TIMEOUT,
) -> Upgraded:
    """Put a new object in the place of a member's, in one step, with its maps and variables.

    ``member`` None is the only one there is; ``reset`` are maps and sections that start anew. ``dry_run`` changes
    nothing; with ``confirm`` it goes back after so many seconds unless ``confirm()`` is called. Raises ObjectError
    for what cannot be carried over, and what ``attach`` raises; then all is as it was.
    """
    from netbpf.compiler.result import Options
    from netbpf.manager.upgrade import UpgradeRequest
    from netbpf.manager.upgrade import upgrade as run

    request = UpgradeRequest(
        interface,
        hooks,
        member,
        os.fspath(object),
        program,
        settings,
        frozenset(reset),
        dry_run,
        compiler or Options(),
        lock_timeout,
        confirm,
    )
    return run(request, netns)


def rollback(
    interface: str,
    member: str | None = None,
    hooks: tuple[Hook, ...] = tuple(Hook),
    *,
    reset: Sequence[str] = (),
    dry_run: bool = False,
    confirm: float | None = None,
    netns: str | Namespace | None = None,
    lock_timeout: float = LOCK_TIMEOUT,
) -> Upgraded:
    """Go back to a member's object before its last upgrade, by the rules of ``upgrade``.

    Raises NotAttachedError where there was none.
    """
    from netbpf.manager.upgrade import UpgradeRequest
    from netbpf.manager.upgrade import upgrade as run

    request = UpgradeRequest(
        interface, hooks, member, reset=frozenset(reset), dry_run=dry_run, confirm=confirm,
        lock_timeout=lock_timeout,
    )  # fmt: skip
    return run(request, netns)


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


def run(
    object: StrPath | bytes,  # noqa: A002 - the field's word
    packet: bytes | str,
    *,
    program: str | None = None,
    hook: HookName | None = None,
    context: Context | None = None,
    interface: str | None = None,
    repeat: int = 1,
    settings: Settings = (),
    map_sizes: MapSizes = (),
    netns: str | Namespace | None = None,
    compiler: Options | None = None,
    kernel_btf: StrPath | None = None,
) -> RunResult:
    """Run a program on one packet, attached to nothing: its verdict, the packet afterwards, and all that moved.

    ``object`` is an object file, a C source, ``builtin:NAME``, or the bytes of an object. ``packet`` is bytes that
    begin with an Ethernet header, or a scapy expression, ``"Ether()/IP(dst='10.0.0.1')/UDP(dport=53)"``, which is
    read without evaluating Python. ``context`` is what the program sees besides; ``interface`` names its ``ifindex``.
    ``repeat`` is for the clock alone: verdict, packet and changes are those of the first run.
    Raises ObjectError, CompileError, VerifierError, NotSupportedError, InterfaceNotFoundError, ToolMissingError,
    PermissionDeniedError, UsageError for packets and contexts that make no sense (PacketTextError knows the place).
    """
    from netbpf.compiler.result import Options
    from netbpf.manager.status import opened
    from netbpf.packets.expression import read_expression
    from netbpf.packets.run import run_packet
    from netbpf.packets.testrun import Bench, at_interface

    data = read_expression(packet) if isinstance(packet, str) else packet
    chosen = None if hook is None else hook_of(hook)
    with opened(netns) as namespace:
        if interface is not None:
            context = at_interface(context, interface, namespace)
        with Bench.open(
            object, program=program, hook=chosen, settings=settings, map_sizes=map_sizes,
            compiler=compiler or Options(), kernel_btf=Path(kernel_btf) if kernel_btf else None,
        ) as bench:  # fmt: skip
            return namespace.run(run_packet, bench, data, context, repeat=repeat)


def replay(
    object: StrPath | None,  # noqa: A002 - the field's word
    capture: StrPath,
    *,
    on: str | None = None,
    program: str | None = None,
    hook: HookName | None = None,
    settings: Settings = (),
    map_sizes: MapSizes = (),
    limit: int | None = None,
    output: StrPath | None = None,
    dropped: StrPath | None = None,
    samples: int = 3,
    compiler: Options | None = None,
    kernel_btf: StrPath | None = None,
    netns: str | Namespace | None = None,
    progress: Progress | None = None,
) -> ReplayResult:
    """Send every packet of a capture (pcap, pcapng, gzipped or not; ``-`` is standard input) through a program.

    ``on`` is an interface: then it is a copy of what netbpf runs there, program or chain, with copies of its maps, and
    ``object`` is None. The program is attached to nothing, and its maps live as long as the capture lasts.
    ``output`` gets every packet as it came out, ``dropped`` those that were dropped, as they came in; both are pcapng
    with verdicts. ``samples`` is how many packets of each verdict are kept in the result. ``progress`` is called with
    the bytes read, the size of the file (0: unknown) and the packets run.
    Raises CaptureError, ObjectError, CompileError, VerifierError, NotSupportedError, PermissionDeniedError, UsageError,
    and NetbpfError where a file cannot be written; what was written then is whole.
    """
    if (object is None) != (on is not None):
        raise UsageError("say either an object or, with `on`, an interface")
    from netbpf.compiler.result import Options
    from netbpf.packets.replay import replay as run
    from netbpf.packets.replay_model import ReplayRequest

    request = ReplayRequest(
        object="" if object is None else os.fspath(object),
        capture=os.fspath(capture),
        on=on,
        netns=netns,
        program=program,
        hook=None if hook is None else hook_of(hook),
        settings=settings,
        map_sizes=map_sizes,
        limit=limit,
        output=os.fspath(output) if output else None,
        dropped=os.fspath(dropped) if dropped else None,
        samples=samples,
        compiler=compiler or Options(),
        kernel_btf=os.fspath(kernel_btf) if kernel_btf else None,
    )
    return run(request, progress)


def diff(
    old: StrPath,
    new: StrPath,
    capture: StrPath,
    *,
    program: str | None = None,
    new_program: str | None = None,
    hook: HookName | None = None,
    settings: Settings = (),
    ignore: Sequence[str] = (),
    limit: int | None = None,
    output: StrPath | None = None,
    samples: int = 3,
    compiler: Options | None = None,
    kernel_btf: StrPath | None = None,
    progress: Progress | None = None,
) -> DiffResult:
    """Send the packets of a capture through two programs, and group those on which verdict or output differ.

    ``ignore`` names fields of the packets afterwards that do not count (``ip.ttl``); ``output`` gets the packets that
    differ, as they came in. ``new_program`` is the program's name in the new object where that is another.
    Raises what ``replay`` raises.
    """
    from netbpf.compiler.result import Options
    from netbpf.packets.diff import diff as run
    from netbpf.packets.diff_model import DiffRequest

    request = DiffRequest(
        old=os.fspath(old),
        new=os.fspath(new),
        capture=os.fspath(capture),
        program=program,
        new_program=new_program,
        hook=None if hook is None else hook_of(hook),
        settings=settings,
        ignore=tuple(ignore),
        limit=limit,
        output=os.fspath(output) if output else None,
        samples=samples,
        compiler=compiler or Options(),
        kernel_btf=os.fspath(kernel_btf) if kernel_btf else None,
    )
    return run(request, progress)


def read_cases(path: StrPath, *, object: str | None = None) -> CaseFile:  # noqa: A002 - the file's word
    """Read a TOML file of test cases (docs/test.md), without running anything.

    ``object`` is tested in place of what the file names. Raises UsageError with file and line for what is wrong in it,
    ToolMissingError where packets are written as expressions and scapy is missing.
    """
    from netbpf.packets.cases_read import read_cases as read

    return read(path, object=object)


def run_cases(
    file: StrPath | CaseFile,
    *,
    words: Sequence[str] = (),
    progress: Callable[[CaseResult], None] | None = None,
) -> CasesResult:
    """Run test cases, each on a program just loaded and attached to nothing.

    ``file`` is a TOML file or what ``read_cases`` made of one; with ``words`` only cases whose name holds one of them
    are run; ``progress`` is called after each. A case that fails is a result, as is one whose program the verifier
    refuses. Raises UsageError for a file that is wrong, and where no case could be run what the first one raised:
    ObjectError, CompileError, VerifierError, PermissionDeniedError, NotSupportedError.
    """
    from netbpf.packets.cases_model import CaseFile
    from netbpf.packets.cases_run import run_cases as run

    return run(
        file if isinstance(file, CaseFile) else read_cases(file), words=words, progress=progress
    )


def compile(  # noqa: A001 - the verb users know
    sources: StrPath | Sequence[StrPath],
    output: StrPath | None = None,
    options: Options | None = None,
) -> list[CompileResult]:
    """Compile C sources to objects. Raises CompileError, ToolMissingError, ObjectError, UsageError."""
    from netbpf.compiler import Options, compile_sources

    several = [sources] if isinstance(sources, str | os.PathLike) else list(sources)
    return compile_sources([Path(one) for one in several], output, options or Options())


def attach_auto(
    object: StrPath,  # noqa: A002 - the field's word
    programs: Sequence[str] = (),
    *,
    settings: Settings = (),
    map_sizes: MapSizes = (),
    tail_calls: Sequence[str] = (),
    share: Sequence[str] = (),
    maps: Sequence[str] = (),
    pin_maps: StrPath | None = None,
    cgroup: StrPath | None = None,
    netns: str | Namespace | None = None,
    compiler: Options | None = None,
    kernel_btf: StrPath | None = None,
    lock_timeout: float = LOCK_TIMEOUT,
) -> AutoResult:
    """Attach what an object holds for tracepoints, kernel functions, cgroups and the like, as its sections say.

    ``programs`` are function or section names (default: all that can be attached so; those for interfaces are named
    in the notes). All are attached or none. ``cgroup`` is where cgroup programs go (default: the root of cgroup v2),
    ``netns`` where those of network namespaces go, and where ``share`` looks for interfaces. They stay when the
    process ends, until ``detach_auto``.

    Raises ObjectError, CompileError, VerifierError, NotSupportedError where the kernel lacks a hook,
    PermissionDeniedError, LockTimeoutError, UsageError.
    """
    from netbpf.compiler.result import Options
    from netbpf.manager.companions import AutoRequest
    from netbpf.manager.companions import attach as run

    request = AutoRequest(
        object=os.fspath(object),
        programs=tuple(programs),
        settings=settings,
        map_sizes=map_sizes,
        tail_calls=tuple(tail_calls),
        share=tuple(share),
        maps=tuple(maps),
        pin_maps=Path(pin_maps) if pin_maps else None,
        cgroup=Path(cgroup) if cgroup else None,
        compiler=compiler or Options(),
        kernel_btf=Path(kernel_btf) if kernel_btf else None,
        lock_timeout=lock_timeout,
    )
    return run(request, netns)


def _entries(directory: Path) -> list[str]:
    try:
        return os.listdir(directory)
    except OSError:
        return []


def companions() -> list[CompanionSet]:
    """What ``attach_auto`` attached and is still there, by number. Raises PermissionDeniedError."""
    from netbpf import layout

    # Most hosts have none, and what reads them takes 3 ms to import.
    if not any(_entries(layout.auto_pins(root)) for root in (layout.BPFFS, layout.own_bpffs())):
        return []
    from netbpf.manager.autopins import sets

    return sets()


def detach_auto(
    which: str | int | None = None,
    *,
    everything: bool = False,
    missing_ok: bool = False,
    lock_timeout: float = LOCK_TIMEOUT,
) -> list[CompanionSet]:
    """Take off what one ``attach_auto`` attached: by its number, its object, or the only one there is.

    Raises NotAttachedError (not with ``missing_ok``), UsageError if more than one is meant and ``everything`` is not.
    """
    from netbpf.manager.companions import detach as run

    name = None if which is None else str(which)
    return run(name, everything=everything, missing_ok=missing_ok, lock_timeout=lock_timeout)


# --- looking inside objects ---


def _opened(object: StrPath) -> tuple[ObjectSpec, tuple[str, ...]]:  # noqa: A002 - the word for it
    from netbpf.bpf.object import ObjectSpec
    from netbpf.compiler.result import Options
    from netbpf.manager.sources import find_source

    source = find_source(os.fspath(object), Options())
    return ObjectSpec.open(source.path, os.fspath(object)), source.notes


def inspect(object: StrPath) -> ObjectReport:  # noqa: A002
    """What an object holds, and whether this kernel has what it needs; ``object`` as for ``attach``.

    Nothing of the object is loaded: helpers, map types and instructions are asked for by programs of a few
    instructions. Without the permission to do so the answers are None. Raises ObjectError, CompileError.
    """
    from netbpf.insight.objects import report

    spec, notes = _opened(object)
    return report(spec, notes=notes)


def disassemble(object: StrPath, *, names: Sequence[str] = ()) -> list[Listing]:  # noqa: A002
    """The code of an object's functions with its source lines; of ``names`` only: functions or sections.

    Raises ObjectError, CompileError.
    """
    from netbpf.insight.listing import listings

    return listings(_opened(object)[0], names)


def elf_headers(object: StrPath) -> ElfHeaders:  # noqa: A002
    """ELF header, sections and symbols of an object. Raises ObjectError, CompileError."""
    from netbpf.insight.headers import headers

    return headers(_opened(object)[0].elf)


# --- looking into the kernel ---

# What is meant: an id, a name, a tag or the path of a pin, as one word or with the word for it ("name", "17").
Which = int | str | tuple[str, ...]


def _wanted(which: Which | None) -> Wanted:
    from netbpf.insight.choose import Wanted, parse

    if which is None:
        return Wanted()
    if isinstance(which, int):
        return Wanted(id=which)
    return parse((which,) if isinstance(which, str) else which)


def programs(which: Which | None = None, *, all_netns: bool = False) -> list[KernelProgram]:
    """The programs that the kernel has, with pins, processes and hooks: all, or those that are meant.

    Hooks are those of this network namespace, or of all. One that vanishes meanwhile is left out. Raises
    NotAttachedError where none is what was meant, PermissionDeniedError.
    """
    from netbpf.insight.kernel import programs as run

    return run(_wanted(which), lambda: status(all_netns=all_netns))


def maps(which: Which | None = None, *, all_netns: bool = False) -> list[KernelMap]:
    """The maps that the kernel has, with the programs that use them; see ``programs``."""
    from netbpf.insight.kernel import maps as run

    return run(_wanted(which), lambda: status(all_netns=all_netns))


def links(which: Which | None = None) -> list[KernelLink]:
    """The links that the kernel has: all, or one by its id or pin. Raises NotAttachedError, PermissionDeniedError."""
    from netbpf.insight.kernel import links as run

    def names() -> dict[int, str]:
        from socket import if_nameindex

        return dict(if_nameindex())

    return run(_wanted(which), names)


def program_code(which: Which) -> list[Listing]:
    """The instructions of a running program as the verifier left them, by functions, with source lines.

    Raises NotAttachedError, UsageError where several are meant, PermissionDeniedError, NotSupportedError.
    """
    from netbpf.insight.kernel import open_program
    from netbpf.insight.xlated import RunningCode

    with open_program(_wanted(which)) as program:
        return RunningCode(program).xlated()


def program_machine_code(which: Which) -> list[MachineCode]:
    """The machine code of a running program; without objdump its bytes alone. Raises as ``program_code``."""
    from netbpf.insight.jited import machine_code
    from netbpf.insight.kernel import open_program
    from netbpf.insight.xlated import RunningCode

    with open_program(_wanted(which)) as program:
        return machine_code(RunningCode(program))


def map_entries(which: Which) -> Entries:
    """The entries of one map, to read and write; a context manager.

    >>> with map_entries("rules") as entries:  # doctest: +SKIP
    ...     entries.update("{src: 10.0.0.0/8}", "drop")

    Raises NotAttachedError, UsageError where several are meant, PermissionDeniedError.
    """
    from netbpf.insight.entries import Entries
    from netbpf.insight.kernel import open_map

    return Entries(open_map(_wanted(which)))


def pin_map(which: Which, path: StrPath) -> Path:
    """Give a map a name in a bpffs; it stays until the name is removed. Raises NetbpfError where the name is taken."""
    from netbpf.insight.kernel import open_map
    from netbpf.insight.pinning import pin

    with open_map(_wanted(which)) as opened:
        return pin(opened.fd.fileno(), Path(path))
