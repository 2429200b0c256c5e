"""Putting a program on an end of a wire: the one place where netns_fixtures meets netbpf's loader and hooks.

It goes around netbpf's manager on purpose: no lock, no record, nothing outside the test's own namespace. What a
killed test leaves attached goes with the namespace.
"""

import os
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Self, TypeAlias

from netbpf.bpf.btf.encode import Encodable
from netbpf.bpf.btf.values import Value
from netbpf.bpf.loader import Loaded, load
from netbpf.bpf.object import ObjectSpec
from netbpf.constants import Hook, Mode, TcAction, XdpAction
from netbpf.model import Attachment, Interface, Occupant, TcFilter
from netbpf.net import tc, tcx, xdp
from netbpf.net.rtnetlink import Session
from netns_fixtures.counters import PATIENCE as COUNTER_PATIENCE
from netns_fixtures.counters import Changes, flatten
from netns_fixtures.kinds import AttachKind

if TYPE_CHECKING:
    from netbpf.stats.model import HookStats
    from netns_fixtures.topology import End

# A path of an object or a C source, ``builtin:NAME``, or the bytes of an object.
Object: TypeAlias = str | os.PathLike[str] | bytes

_PRIORITY: Final = 50  # of a clsact filter


def verdict_object(family: str, verdict: int) -> bytes:
    """The smallest object there is: one program that returns ``verdict``. ``family`` is "xdp" or "tc"."""
    from netbpf.bpf.elf import STB_GLOBAL, STT_FUNC
    from netbpf.bpf.insn import EXIT, MOV64_IMM, Insn
    from netbpf.compiler.elf_writer import CODE, ElfWriter

    code = Insn(MOV64_IMM, 0, 0, 0, verdict).pack() + Insn(EXIT).pack()
    elf = ElfWriter()
    section = elf.section(family, code, flags=CODE)
    elf.section("license", b"GPL\0")
    elf.symbol(
        f"{family}_verdict", section=section, size=len(code), type=STT_FUNC, binding=STB_GLOBAL
    )
    return elf.build()


def pass_object(family: str) -> bytes:
    """An object whose program lets everything pass."""
    return verdict_object(family, XdpAction.PASS if family == "xdp" else TcAction.OK)


class Attached:
    """A program on a hook of an end, with its maps and variables.

    ``counters`` reads everything that can count, ``get`` and ``set`` one value by name. As a context manager it
    detaches at the end; the fixtures only ``close`` it, because the interface is about to vanish.
    """

    def __init__(self, end: "End", kind: AttachKind, loaded: Loaded) -> None:
        from netbpf.stats.reader import HookReader

        self.end = end
        self.kind = kind
        self.loaded = loaded
        self.hook = Hook(kind.hook)
        self._mode = Mode(kind.mode)
        self._interface = Interface(end.ifname, end.ifindex, end.namespace.inode)
        self._place: TcFilter | None = None
        with ExitStack() as undo:
            undo.callback(loaded.close)
            self._attach(undo)
            occupant = Occupant(self._interface, self.hook, self._mode, self.id, filter=self._place)
            self._as_attachment = Attachment(
                occupant, loaded.program.info, managed=False, manager=None
            )
            self._reader = undo.enter_context(HookReader(self._as_attachment))
            self._stack = undo.pop_all()

    def _attach(self, undo: ExitStack) -> None:
        fd = self.loaded.program.fd.fileno()
        with Session(self.end.namespace) as session:
            match self._mode:
                case Mode.CLSACT:
                    tc.ensure_clsact(session, self._interface)
                    name = self.loaded.program_spec.name
                    self._place = tc.attach(
                        session, self._interface, self.hook, fd, name=name, priority=_PRIORITY
                    )
                case Mode.TCX:
                    undo.enter_context(
                        tcx.attach_link(self.end.namespace, self._interface, self.hook, fd)
                    )
                case _:
                    xdp.attach(session, self._interface, fd, self._mode)

    @property
    def id(self) -> int:
        """The kernel's id of the program."""
        return self.loaded.program.info.id

    # --- what it holds ---

    def get(self, name: str) -> Value:
        """A variable or map entry by name: ``"counter"``, ``"cfg.port"``, ``"ports[2]"``, ``"rules[10.0.0.0/8]"``."""
        from netbpf.stats.access import Access

        with Access([self._as_attachment], self.end.ifname) as access:
            return access.get(name)

    def set(self, changes: Mapping[str, Encodable]) -> None:
        """Write variables and map entries of the running program, under the same names."""
        from netbpf.stats.access import Access

        with Access([self._as_attachment], self.end.ifname) as access:
            access.set(changes)

    def stats(self) -> "HookStats":
        """Everything netbpf can read of the program, as ``netbpf stats`` shows it."""
        return self._reader.read(limit=None)

    def counters(self) -> dict[str, Value]:
        """Every number (and other value) of variables and maps, by its path; zeros of arrays are left out.

        ``counter``, ``cfg.port``, ``rules[10.0.0.0/8].hits``; per-CPU values are sums. netbpf's own tables are
        named: ``verdicts[drop].packets``, ``protocols[ipv4/udp].bytes``.
        """
        from netbpf.stats.tables import PROTOCOLS_MAP, VERDICTS_MAP

        stats = self._reader.read(limit=None, skip_zeros=True)
        found: dict[str, Value] = {}
        for variable in stats.variables:
            flatten(variable.name, variable.value, found)
        for table in stats.maps:
            if table.name not in (VERDICTS_MAP, PROTOCOLS_MAP):
                for entry in table.entries:
                    flatten(f"{table.name}[{_key(entry.key)}]", entry.value, found)
        for name, counters in (("verdicts", stats.verdicts), ("protocols", stats.protocols)):
            for key, counter in counters.items():
                found[f"{name}[{key}].packets"] = counter.packets
                found[f"{name}[{key}].bytes"] = counter.bytes
        return found

    def changes(
        self,
        expected: Mapping[str, Any],
        *,
        ignore: Sequence[str] = (),
        within: float = COUNTER_PATIENCE,
    ) -> Changes:
        """A ``with`` block during which exactly these ``counters`` move, by so much, and no other one does."""
        return Changes(self.counters, expected, ignore=ignore, within=within)

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
        return f"<Attached {self.loaded.program_spec.name} id={self.id} {self.kind} on {self.end.ifname}>"


def _key(key: Value) -> str:
    from netbpf.bpf.btf.values import format_value

    return format_value(key)


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
    hook = Hook(kind.hook)
    spec = _spec(object_)
    chosen = spec.select(hook, program)
    if variables:
        from netbpf.manager.settings import apply

        apply(spec, variables)
    return Attached(end, kind, load(spec, chosen, hook))


def _spec(object_: Object) -> ObjectSpec:
    if isinstance(object_, bytes):
        return ObjectSpec(object_, "object.bpf.o")
    from netbpf.compiler import Options
    from netbpf.manager.sources import find_source

    return ObjectSpec.open(find_source(os.fspath(object_), Options()).path)


def attach_pass(end: "End", kind: AttachKind) -> Attached:
    """Put a program on a hook that lets everything pass.

    A veth delivers what the other end's native XDP program sends back (XDP_TX), and what is redirected to it, only
    if it has a native XDP program itself (measured on Linux 6.18; GRO alone is enough for neither).
    """
    return attach(end, kind, pass_object(kind.family))
