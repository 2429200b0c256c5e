"""Putting a program on an end of a wire: the one place where netns_fixtures meets netbpf's hooks.

It goes around netbpf's manager on purpose: no lock, no record, nothing outside the test's own namespace. What a
killed test leaves attached goes with the namespace.
"""

from collections.abc import Mapping
from contextlib import ExitStack
from types import TracebackType
from typing import TYPE_CHECKING, Final, Self

from netbpf.bpf.btf.encode import Encodable
from netbpf.bpf.loader import Loaded, load
from netbpf.constants import Hook, Mode
from netbpf.model import Interface
from netbpf.net import tc, tcx, xdp
from netbpf.net.rtnetlink import Session
from netns_fixtures.errors import TrafficError
from netns_fixtures.kinds import AttachKind
from netns_fixtures.objects import Object, pass_object, specification, verdict_object
from netns_fixtures.running import Running

if TYPE_CHECKING:
    from netns_fixtures.topology import End

__all__ = ["Attached", "Object", "attach", "attach_pass", "pass_object", "verdict_object"]

_PRIORITY: Final = 50  # of a clsact filter


class Attached(Running):
    """A program on a hook of an end, with its maps and variables.

    As a context manager it detaches at the end; the fixtures only ``close`` it, because the interface is about to
    vanish.
    """

    def __init__(self, end: "End", kind: AttachKind, loaded: Loaded) -> None:
        super().__init__(loaded, kind, Interface(end.ifname, end.ifindex, end.namespace.inode))
        self.end = end
        with ExitStack() as undo:
            undo.callback(super().close)
            self._mode = Mode(kind.mode)
            self._attach(undo)
            self._stack = undo.pop_all()
        end.evidence.uses(self)

    def _attach(self, undo: ExitStack) -> None:
        fd = self.loaded.program.fd.fileno()
        with Session(self.end.namespace) as session:
            match self._mode:
                case Mode.CLSACT:
                    tc.ensure_clsact(session, self._interface)
                    self._place = tc.attach(
                        session,
                        self._interface,
                        self.hook,
                        fd,
                        name=self.name,
                        priority=_PRIORITY,
                    )
                case Mode.TCX:
                    undo.enter_context(
                        tcx.attach_link(self.end.namespace, self._interface, self.hook, fd)
                    )
                case _:
                    xdp.attach(session, self._interface, fd, self._mode)

    # --- the end ---

    def detach(self) -> None:
        """Take it off the hook, if the interface is still there, and let go of it."""
        with self._stack:
            if self._mode is Mode.TCX:
                return  # closing the link's descriptor does it
            with Session(self.end.namespace) as session:
                if self._place is not None:
                    tc.detach(session, self._interface, self.hook, self._place, expected_id=self.id)
                else:
                    fd = self.loaded.program.fd.fileno()
                    xdp.detach(session, self._interface, self._mode, expected_fd=fd)

    def close(self) -> None:
        """Let go of it. Over netlink it stays on the hook as long as the interface."""
        self._stack.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.detach()

    def __repr__(self) -> str:
        return f"<Attached {self.name} id={self.id} {self.kind} on {self.end.ifname}>"


def attach(
    end: "End",
    kind: AttachKind,
    object_: Object,
    *,
    program: str | None = None,
    variables: Mapping[str, Encodable] | None = None,
) -> Attached:
    """Load one program of an object and put it on a hook of ``end``, which has to be empty.

    ``program`` chooses among several, ``variables`` sets globals before the load (``.rodata`` too).
    Raises what netbpf raises: ObjectError, CompileError, VerifierError, HookBusyError, NotSupportedError, ...
    """
    if not kind.on_wire:
        raise TrafficError(
            f"{kind} is no hook of an interface; the fixture bench runs programs there"
        )
    hook = Hook(kind.hook)
    spec = specification(object_)
    chosen = spec.select(hook, program)
    if variables:
        from netbpf.manager.settings import apply

        apply(spec, variables)
    return Attached(end, kind, load(spec, chosen, hook))


def attach_pass(end: "End", kind: AttachKind) -> Attached:
    """Put a program on a hook that lets everything pass, which a veth wants at the other end of native XDP
    (netns_fixtures.passing); ``rig`` does it with one that is loaded already.
    """
    made = attach(end, kind, pass_object(kind.family))
    end.evidence.programs.remove(made)  # it is no program under test
    return made
