"""The ways to attach that this kernel has, tried where it harms nobody.

What belongs to interfaces is attached to the loopback of a network namespace that is made for it and vanishes with it.
What belongs to cgroups, sockets and namespaces is asked about by BPF_PROG_QUERY. Functions are probed at one that
nothing calls, ``bpf_fentry_test1``, and tracepoints by a program that ends at once.
"""

import errno
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Final

from netbpf._sys.fd import Fd
from netbpf._sys.probing import (
    ProgramProbe,
    link_errno,
    netfilter_link,
    query_errno,
    uprobes_errno,
)
from netbpf.bpf import hookup, probes
from netbpf.bpf.probes import Told
from netbpf.bpf.targets import Target, Way
from netbpf.constants import AttachType, Hook, Mode, ProgType
from netbpf.errors import KernelError, NetbpfError, NotSupportedError, PermissionDeniedError
from netbpf.host import kernel_names
from netbpf.model import Interface
from netbpf.net import tc, tcx, xdp
from netbpf.net.netns import Namespace
from netbpf.net.rtnetlink import Session

FUNCTION: Final = "bpf_fentry_test1"
_RETURNING: Final = "bpf_modify_return_test"
# It is passed when a BPF_PROG_TEST_RUN ends, and at no other time (Linux 5.2).
_TRACEPOINT: Final = "bpf_test_finish"
_LOOPBACK: Final = 1  # its ifindex in every network namespace
# Asked by BPF_PROG_QUERY: cgroups, sockets, flow dissector, sk_lookup, LIRC, TCX and netkit (kernel/bpf/syscall.c).
_QUERIED: Final = (
    "cgroup_",
    "sk_skb_",
    "sk_msg_",
    "tcx_",
    "netkit_",
    "lirc_",
    "flow_dissector",
    "sk_lookup",
)
_BY_LOAD: Final = {
    "xdp_devmap": (ProgType.XDP, AttachType.XDP_DEVMAP),
    "xdp_cpumap": (ProgType.XDP, AttachType.XDP_CPUMAP),
    "sk_reuseport_select": (ProgType.SK_REUSEPORT, AttachType.SK_REUSEPORT_SELECT),
    "sk_reuseport_select_or_migrate": (ProgType.SK_REUSEPORT, AttachType.SK_REUSEPORT_SELECT_OR_MIGRATE),
}  # fmt: skip
_NOT_HERE: Final = "this kernel does not have it"
_UPROBE_MULTI: Final = 48  # BPF_TRACE_UPROBE_MULTI


def attach_kinds(probe: ProgramProbe) -> dict[str, Told]:
    """Every way by its name: those of interfaces first, then ``enum bpf_attach_type`` in the kernel's order."""
    found = _on_interfaces(probe)
    for number, name in kernel_names.attach_types().items():
        if name.startswith(_QUERIED):
            found[name] = _queried(number)
        elif name in _BY_LOAD:
            kind, attach = _BY_LOAD[name]
            answer = probe.ask(kind, probes.RETURN_ONE, attach)
            here = None if answer.errno in probes.NO_ANSWER else answer.loaded
            found[name] = Told(here, _NOT_HERE if here is False else "")
    for name, ask in _TRACING.items():
        found[name] = ask(probe)
    return found


def _queried(number: int) -> Told:
    said = query_errno(number)
    if said == errno.EPERM:
        return Told(None, "not told: CAP_NET_ADMIN is missing")
    return Told(said != errno.EINVAL, _NOT_HERE if said == errno.EINVAL else "")


# --- interfaces ---


def _on_interfaces(probe: ProgramProbe) -> dict[str, Told]:
    names = ("xdp_skb", "xdp_link", "tc_clsact", "tcx_link", "netfilter")
    try:
        namespace = Namespace.create()
    except PermissionDeniedError as error:
        return dict.fromkeys(names, Told(None, f"not told: {error.message}"))
    except KernelError as error:
        return dict.fromkeys(
            names, Told(None, f"no network namespace to try it in: {error.message}")
        )
    with namespace, Session(namespace) as session:
        lo = Interface("lo", _LOOPBACK, namespace.inode)
        ways: tuple[Callable[[], None], ...] = (
            lambda: _xdp(probe, session, lo),
            lambda: _xdp_link(probe, session, lo),
            lambda: _clsact(probe, session, lo),
            lambda: _tcx(probe, session, lo),
            lambda: _netfilter(probe, session),
        )
        return {name: _tried(way) for name, way in zip(names, ways, strict=True)}


def _tried(way: Callable[[], None]) -> Told:
    """Whether something went well; who refuses it for want of a right has not told."""
    try:
        way()
    except PermissionDeniedError as error:
        return Told(None, error.message)
    except NetbpfError as error:
        return Told(False, error.message)
    return Told(True)


@contextmanager
def _program(probe: ProgramProbe, kind: int, attach: int = 0, btf_id: int = 0) -> Iterator[Fd]:
    fd, number = probe.keep(kind, probes.RETURN_ONE, attach, attach_btf_id=btf_id)
    if fd is None:
        if number in (errno.EPERM, errno.EACCES):
            raise PermissionDeniedError("the kernel permits no such program here (EPERM)")
        if number in probes.NO_ANSWER:
            raise KernelError("BPF_PROG_LOAD", number)
        raise NotSupportedError(_NOT_HERE)
    with fd:
        yield fd


def _xdp(probe: ProgramProbe, session: Session, lo: Interface) -> None:
    with _program(probe, ProgType.XDP, AttachType.XDP) as fd:
        xdp.attach(session, lo, fd.fileno(), Mode.SKB)
        xdp.detach(session, lo, Mode.SKB, expected_fd=None)


def _xdp_link(probe: ProgramProbe, session: Session, lo: Interface) -> None:
    with _program(probe, ProgType.XDP, AttachType.XDP) as fd:
        xdp.attach_link(session, lo, fd.fileno(), Mode.SKB).close()


def _clsact(probe: ProgramProbe, session: Session, lo: Interface) -> None:
    with _program(probe, ProgType.SCHED_CLS) as fd:
        tc.ensure_clsact(session, lo)
        tc.attach(session, lo, Hook.TC_INGRESS, fd.fileno(), name="netbpf_probe", priority=1)


def _tcx(probe: ProgramProbe, session: Session, lo: Interface) -> None:
    with _program(probe, ProgType.SCHED_CLS) as fd:
        tcx.attach_link(session.namespace, lo, Hook.TC_INGRESS, fd.fileno()).close()


def _netfilter(probe: ProgramProbe, session: Session) -> None:
    with _program(probe, ProgType.NETFILTER, AttachType.NETFILTER) as fd:
        said = session.namespace.run(netfilter_link, fd.fileno(), AttachType.NETFILTER)
    if said:
        raise NotSupportedError(_NOT_HERE)


# --- functions and tracepoints ---


def _hooked(target: Target, function: str = "") -> Callable[[ProgramProbe], Told]:
    def ask(probe: ProgramProbe) -> Told:
        from netbpf.host.features import btf_id

        number = btf_id(function) if function else 0
        if function and not number:
            return Told(
                None, f"this kernel's types do not name {function}, where it would be tried"
            )

        def way() -> None:
            with _program(probe, target.type, target.expected, number) as fd:
                link = hookup.attach(fd.fileno(), target, hookup.Surroundings(-1))
                if link is not None:
                    link.close()

        return _tried(way)

    return ask


def _perf_event(probe: ProgramProbe) -> Told:
    return _by_link(probe, ProgType.TRACEPOINT, 0, lambda fd: link_errno(fd, AttachType.PERF_EVENT))


def _uprobe_multi(probe: ProgramProbe) -> Told:
    return _by_link(
        probe, ProgType.KPROBE, _UPROBE_MULTI, lambda fd: uprobes_errno(fd, _UPROBE_MULTI)
    )


def _by_link(probe: ProgramProbe, kind: int, attach: int, ask: Callable[[int], int]) -> Told:
    said = errno.EINVAL
    with suppress(NotSupportedError):
        try:
            with _program(probe, kind, attach) as fd:
                said = ask(fd.fileno())
        except PermissionDeniedError as error:
            return Told(None, error.message)
    if said == errno.EPERM:
        return Told(None, "not told: CAP_PERFMON is missing")
    return Told(said == errno.EBADF, "" if said == errno.EBADF else _NOT_HERE)


_T, _A, _W = ProgType, AttachType, Way
_TRACING: Final[dict[str, Callable[[ProgramProbe], Told]]] = {
    "raw_tracepoint": _hooked(Target(_W.RAW_TRACEPOINT, _T.RAW_TRACEPOINT, name=_TRACEPOINT)),
    "tracepoint": _hooked(
        Target(_W.TRACEPOINT, _T.TRACEPOINT, _A.PERF_EVENT, f"bpf_test_run/{_TRACEPOINT}")
    ),
    "perf_event_link": _perf_event,
    "kprobe": _hooked(Target(_W.KPROBE, _T.KPROBE, _A.PERF_EVENT, FUNCTION)),
    "kprobe_multi": _hooked(Target(_W.KPROBE_MULTI, _T.KPROBE, _A.TRACE_KPROBE_MULTI, FUNCTION)),
    "uprobe_multi": _uprobe_multi,
    "fentry": _hooked(Target(_W.TYPED, _T.TRACING, _A.TRACE_FENTRY, FUNCTION), FUNCTION),
    "fexit": _hooked(Target(_W.TYPED, _T.TRACING, _A.TRACE_FEXIT, FUNCTION), FUNCTION),
    "fmod_ret": _hooked(Target(_W.TYPED, _T.TRACING, _A.MODIFY_RETURN, _RETURNING), _RETURNING),
    "iterator": _hooked(Target(_W.ITERATOR, _T.TRACING, _A.TRACE_ITER, "task"), "bpf_iter_task"),
}
