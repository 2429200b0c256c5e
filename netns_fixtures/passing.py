"""The program that lets everything pass at the other end of a wire, for native XDP.

The kernel rewrites its XDP dispatcher and waits for an RCU grace period, 7 to 20 ms (measured), whenever a program
comes onto its first hook or leaves its last (kernel/bpf/dispatcher.c, Linux 5.6). One program that stays on a hook of
its own, loaded once per process, costs a test nothing of that.
"""

from contextlib import ExitStack
from typing import TYPE_CHECKING, Final

from netbpf.bpf.loader import load
from netbpf.constants import Hook, Mode
from netbpf.model import Interface
from netbpf.net import xdp
from netbpf.net.netns import Namespace
from netbpf.net.rtnetlink import Session
from netns_fixtures import residue
from netns_fixtures.objects import pass_object, specification

if TYPE_CHECKING:
    from netns_fixtures.topology import End

_LOOPBACK: Final = 1  # its index in every namespace


class Passing:
    """A program and the namespace in whose loopback it stays on a hook."""

    def __init__(self) -> None:
        self._open: ExitStack | None = None
        self._fd = -1

    def put(self, end: "End") -> None:
        """Attach it natively to an end of a wire, as long as that is there.

        A veth delivers what the other end's native XDP program sends back (XDP_TX), and what is redirected to it,
        only if it has a native XDP program itself, or GRO, which would merge segments that a test wants one by one
        (drivers/net/veth.c, veth_xdp_xmit; GRO since Linux 5.13).
        Raises HookBusyError if there is one already, NotSupportedError, PermissionDeniedError.
        """
        if self._open is None:
            self._make()
        with Session(end.namespace) as session:
            interface = Interface(end.ifname, end.ifindex, end.namespace.inode)
            xdp.attach(session, interface, self._fd, Mode.NATIVE)

    def _make(self) -> None:
        with ExitStack() as undo:
            namespace = undo.enter_context(Namespace.create())
            spec = specification(pass_object("xdp"))
            loaded = undo.enter_context(load(spec, spec.select(Hook.XDP, None), Hook.XDP))
            self._fd = loaded.program.fd.fileno()
            with Session(namespace) as session:
                loopback = Interface("lo", _LOOPBACK, namespace.inode)
                xdp.attach(session, loopback, self._fd, Mode.SKB)
            kept: list[tuple[str, object]] = [
                ("descriptor", namespace.fileno()),
                ("descriptor", self._fd),
                ("program", loaded.program.info.id),
            ]
            residue.keep(*kept)
            undo.callback(residue.release, *kept)
            self._open = undo.pop_all()

    def close(self) -> None:
        """Let go of it. Where it has been put it stays as long as the interface."""
        opened, self._open = self._open, None
        if opened is not None:
            opened.close()


PASSING: Final = Passing()  # of this process, which is a worker of xdist where that is used
