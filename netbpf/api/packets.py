"""Packets through programs that are attached to nothing."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from netbpf.api.common import HookName, StrPath, hook_of
from netbpf.constants import Hook
from netbpf.errors import (
    UsageError,
)

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from netbpf.compiler.result import Options
    from netbpf.manager.settings import MapSizes, Settings
    from netbpf.net.netns import Namespace
    from netbpf.packets.cases_model import CaseFile, CaseResult, CasesResult
    from netbpf.packets.context import Context
    from netbpf.packets.coverage import Covering
    from netbpf.packets.diff_model import DiffResult
    from netbpf.packets.replay import Progress
    from netbpf.packets.replay_model import ReplayResult
    from netbpf.packets.run import RunResult
    from netbpf.packets.walk_model import WalkResult


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


def walk(
    interface: str,
    packet: bytes | str | None = None,
    *,
    capture: StrPath | None = None,
    hooks: tuple[Hook, ...] = tuple(Hook),
    number: int | None = None,
    limit: int | None = None,
    context: Context | None = None,
    netns: str | Namespace | None = None,
    progress: Progress | None = None,
) -> WalkResult:
    """Send packets through copies of what netbpf runs on an interface, and tell what each program did, and why.

    ``packet`` is as for ``run``; or else ``capture`` is a file (``-``: standard input), of which ``number`` is one
    packet, from 1, and ``limit`` the first so many. Of ``hooks`` a packet meets XDP, then TC ingress; where nothing
    runs on those, TC egress. The copies have maps of their own that begin with what the live ones hold, and go on from
    packet to packet; nothing that runs on the interface is touched. Packets that go the same way are one of ``groups``.
    Raises NotAttachedError, NotManagedError for what others attached, CaptureError, UsageError and NotSupportedError
    for a packet that cannot be run, ToolMissingError, InterfaceNotFoundError, PermissionDeniedError.

    >>> result = netbpf.walk("eth0", "IP(src='10.0.0.7')/UDP(dport=80)")  # doctest: +SKIP
    >>> print(result.groups[0].first.sentence)  # doctest: +SKIP
    acl dropped it: acl.bpf.c:27 return XDP_DROP;, because acl.bpf.c:25 ...
    """
    if (packet is None) == (capture is None):
        raise UsageError("say either a packet or a capture")
    from netbpf.packets.expression import read_expression
    from netbpf.packets.walk import WalkRequest
    from netbpf.packets.walk import walk as run

    data = read_expression(packet) if isinstance(packet, str) else packet
    request = WalkRequest(
        interface, tuple(hooks), data, capture, number, limit, context, netns
    )  # fmt: skip
    return run(request, progress)


def coverage() -> AbstractContextManager[Covering]:
    """Which lines and branches of programs are reached by what is run in this block, in this thread.

    Every program that is loaded meanwhile gets probes: by ``run``, ``replay``, ``run_cases``, also by ``attach``.
    ``result()`` of what the block is given is a ``Coverage``: with ``files``, ``share``, ``table()``, ``write_html()``,
    ``write_lcov()``, ``merged()``, and ``notes`` about programs of which not everything could be counted.

    >>> with netbpf.coverage() as covered:  # doctest: +SKIP
    ...     netbpf.replay("filter.bpf.c", "in.pcap")
    >>> print(covered.result().table())  # doctest: +SKIP
    """
    from netbpf.packets.coverage import covering

    return covering()


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
