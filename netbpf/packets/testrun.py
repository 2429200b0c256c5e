"""One packet through one program: BPF_PROG_TEST_RUN. The program is loaded and attached nowhere."""

import os
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final, Self, TypeAlias

from netbpf._sys import bpf as sys_bpf
from netbpf._sys.signals import held_back
from netbpf.bpf.btf.types import Btf
from netbpf.bpf.loader import Loaded, load
from netbpf.bpf.map import Map
from netbpf.bpf.object import ObjectSpec, ProgramSpec
from netbpf.bpf.program import btf_by_id
from netbpf.bpf.sections import fits
from netbpf.compiler.result import Options
from netbpf.constants import AttachType, Hook
from netbpf.errors import KernelError, NotSupportedError, ObjectError
from netbpf.live.reader import OpenMap
from netbpf.manager.settings import MapSizes, Settings, apply, resize
from netbpf.manager.sources import find_source
from netbpf.net.interfaces import resolve
from netbpf.net.netns import Namespace
from netbpf.net.rtnetlink import Session
from netbpf.packets.context import SKB_SIZE, XDP_SIZE, Context, from_sk_buff, split_xdp
from netbpf.packets.refusals import refusal
from netbpf.packets.verdicts import verdict_name, verdict_of
from netbpf.text import escape

# A path of an object or a C source, ``builtin:NAME``, the bytes of an object, or a parsed one.
Source: TypeAlias = str | os.PathLike[str] | bytes | ObjectSpec

# Bytes of room for the packet afterwards. More than TEST_RUN can make of one: 17 pages and a head for XDP, an MTU of
# 64 KiB for TC. Too little would be noticed only after the program has run, and counted.
_ROOM: Final = 1 << 17
_TARGETS: Final = {AttachType.XDP_DEVMAP: "devmap", AttachType.XDP_CPUMAP: "cpumap"}


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of one packet.

    ``data`` is the packet afterwards; ``meta`` the XDP metadata before it; ``context`` the context afterwards (for XDP
    as it was given). ``linear`` is how many bytes of it a program finds between data and data_end: less than all for
    XDP packets of more than a page. ``duration_ns`` is the mean of the runs.
    """

    hook: Hook
    verdict: int
    data: bytes
    duration_ns: int
    context: Context
    meta: bytes = b""
    linear: int = 0

    @property
    def verdict_name(self) -> str:
        """ "pass", "drop", "shot" ..., or the number where it is no verdict."""
        return verdict_name(self.hook, self.verdict)


@dataclass(slots=True)
class Bench:
    """A program in the kernel with maps of its own, to be run on packets. Close it, or use it as a context manager.

    ``loaded`` is owned by it. ``notes`` are what the compiler remarked.
    """

    loaded: Loaded
    hook: Hook
    shown: str = "object"
    notes: tuple[str, ...] = ()
    _types: dict[int, Btf | None] = field(default_factory=dict)

    @classmethod
    def open(
        cls,
        source: Source,
        *,
        program: str | None = None,
        hook: Hook | None = None,
        settings: Settings = (),
        map_sizes: MapSizes = (),
        reuse: Mapping[str, Map] | None = None,
        compiler: Options | None = None,
        kernel_btf: Path | None = None,
    ) -> Self:
        """Load one program of an object, compiled first where it is a C source.

        ``program`` chooses among several by function or section name. ``hook`` is told by the section unless given;
        for packets ``tc/ingress`` and ``tc/egress`` are the same. ``settings`` are values of global variables,
        ``map_sizes`` numbers of entries, as for ``attach``.
        Raises ObjectError, CompileError, VerifierError, NotSupportedError, PermissionDeniedError, UsageError.
        """
        spec, shown, notes = _specification(source, compiler or Options())
        chosen, hook = choose(spec, program, hook)
        if map_sizes:
            resize(spec, map_sizes)
        if settings:
            apply(spec, settings)
        return cls(load(spec, chosen, hook, reuse=reuse, kernel_btf=kernel_btf), hook, shown, notes)

    @property
    def program(self) -> str:
        """The name of the program's function."""
        return self.loaded.program_spec.name

    @property
    def fd(self) -> int:
        """The program's descriptor."""
        return self.loaded.program.fd.fileno()

    def maps(self) -> dict[str, OpenMap]:
        """The program's maps with their decoders, by their names in the object."""
        found: dict[str, OpenMap] = {}
        for name, one in self.loaded.maps.items():
            number = one.info.btf_id
            if number not in self._types:
                self._types[number] = btf_by_id(number)
            found[name] = OpenMap(one, self._types[number])
        return found

    def run(self, packet: bytes, context: Context | None = None, *, repeat: int = 1) -> Outcome:
        """Run the program on a packet that begins with an Ethernet header.

        With ``repeat`` the kernel runs it so often on one buffer: later runs see what earlier ones made of the packet.
        Raises UsageError for packets and contexts that make no sense, NotSupportedError for what this kernel's
        TEST_RUN does not take, InterfaceNotFoundError, PermissionDeniedError.
        """
        context = context or Context()
        context.check(self.hook)
        packet = context.packet(packet)
        xdp = self.hook is Hook.XDP
        try:
            with held_back() if repeat > 1 else nullcontext():
                done = sys_bpf.prog_test_run(
                    self.fd,
                    context.meta + packet,
                    data_out_size=_ROOM,
                    repeat=repeat,
                    context=context.xdp_md(len(packet)) if xdp else context.sk_buff(),
                    context_out_size=XDP_SIZE if xdp else SKB_SIZE,
                )
        except KernelError as error:
            raise refusal(error, self.hook, packet, context) from None
        verdict = verdict_of(self.hook, done.retval)
        if xdp:
            meta, data, linear = split_xdp(done.data, done.context)
            return Outcome(self.hook, verdict, data, done.duration_ns, context, meta, linear)
        after = from_sk_buff(done.context, context)
        return Outcome(
            self.hook, verdict, done.data, done.duration_ns, after, linear=len(done.data)
        )

    def close(self) -> None:
        """Let go of the program and its maps."""
        self.loaded.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _specification(source: Source, compiler: Options) -> tuple[ObjectSpec, str, tuple[str, ...]]:
    if isinstance(source, ObjectSpec):
        return source, source.path, ()
    if isinstance(source, bytes):
        return ObjectSpec(source), "object", ()
    found = find_source(os.fspath(source), compiler)
    return ObjectSpec.open(found.path, found.name), found.shown, found.notes


def at_interface(context: Context | None, name: str, namespace: Namespace) -> Context:
    """The context on an interface of a namespace, by its name or index. InterfaceNotFoundError where there is none."""
    if name.isascii() and name.isdigit():
        return replace(context or Context(), ifindex=int(name))
    with Session(namespace) as session:
        return replace(context or Context(), ifindex=resolve(session, name).index)


def choose(
    spec: ObjectSpec, program: str | None = None, hook: Hook | None = None
) -> tuple[ProgramSpec, Hook]:
    """The program of an object and its hook: XDP or TC by what its section says, unless ``hook`` is given.

    ObjectError where there is none or a choice, NotSupportedError for programs of devmap and cpumap entries.
    """
    named = [one for one in spec.programs if program in (None, one.name, one.section)]
    if named and all(one.declared.attach_type in _TARGETS for one in named):
        raise NotSupportedError(
            f"{escape(named[0].name)} runs in an entry of a {_TARGETS[named[0].declared.attach_type]}, "
            "and the kernel's TEST_RUN takes no such program",
            hint='give a copy of it the section SEC("xdp") to test it',
        )
    if hook is not None:
        return spec.select(hook, program), hook
    hooks = [h for h in (Hook.XDP, Hook.TC_INGRESS) if any(fits(p.declared, h) for p in named)]
    if not hooks or len(hooks) == 1:
        hook = hooks[0] if hooks else Hook.XDP
        return spec.select(hook, program), hook
    certain = [one for one in hooks if _only(spec, one, program)]
    if len(certain) == 1:
        return spec.select(certain[0], program), certain[0]
    names = ", ".join(f"{escape(p.name)} (section {escape(p.section)})" for p in named[:20])
    raise ObjectError(
        f"{spec.elf.origin} holds programs that fit xdp and tc: {names}",
        hint="choose one with -n NAME, or say --hook xdp or --hook tc",
    )


def _only(spec: ObjectSpec, hook: Hook, program: str | None) -> bool:
    """Whether a program says itself that it is for a hook."""
    return any(
        program in (None, one.name, one.section)
        and fits(one.declared, hook)
        and not fits(one.declared, Hook.TC_INGRESS if hook is Hook.XDP else Hook.XDP)
        for one in spec.programs
    )
