"""The programs an attach brings: found, set, loaded alone, and ready to run by themselves or in a chain."""

import hashlib
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from fnmatch import fnmatchcase
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

from netbpf.bpf.chain import verdicts
from netbpf.bpf.loader import Loaded, load
from netbpf.bpf.map import Map
from netbpf.bpf.object import ObjectSpec, ProgramSpec
from netbpf.constants import Hook
from netbpf.errors import ObjectError
from netbpf.manager import mappinned, mapsources, settings, tailcalls
from netbpf.manager.mappins import SharedMaps
from netbpf.manager.mapsources import Finder, GivenMaps
from netbpf.manager.request import PINNED, AttachRequest
from netbpf.manager.sources import Source, find_source
from netbpf.manager.tailcalls import Slots, TailCall
from netbpf.model import Member, ObjectRef
from netbpf.net.rtnetlink import Session
from netbpf.state import records
from netbpf.text import escape

if TYPE_CHECKING:
    from netbpf.manager.pinned import PinnedProgram

DEFAULT_PRIORITY = 50  # as everywhere in the field: libxdp, bpfman


class Incoming:
    """One program of an attach, in the kernel. Close it, or use it as a context manager."""

    def __init__(
        self,
        request: AttachRequest,
        source: Source,
        spec: ObjectSpec,
        touched: tuple[str, ...],
        types: bytes | None,
        given: GivenMaps,
        calls: Sequence[TailCall] = (),
        pinned: "PinnedProgram | None" = None,
    ) -> None:
        """Load it; ``touched`` are sections that settings were written to, ``types`` the kernel types to use.

        ``given`` are maps that exist, which it takes over; ``calls`` the entries of its prog arrays. One that is
        ``pinned`` is taken as it is.
        """
        self._types = types
        with ExitStack() as undo:
            undo.enter_context(given)
            program = spec.select(request.hook, pinned.pin.name if pinned else request.program)
            self._slots = Slots(spec, program, request.hook, calls, given.maps)
            self._shared = undo.enter_context(SharedMaps(request.pin_maps, spec, given.maps))
            undo.push(self._on_error)
            self.loaded: Loaded = undo.enter_context(
                _adopted(spec, program, request.hook, pinned) if pinned else
                load(
                    spec, program, request.hook, reuse={**self._shared.maps, **given.maps},
                    extra_maps=touched, refill=self._slots.refill, kernel_btf=request.kernel_btf,
                )
            )  # fmt: skip
            given.check_used(program.name, self.loaded.maps)
            self._slots.check_used(program.name, self.loaded.maps)
            remarks = () if pinned else self._shared.pin_new(self.loaded)
            remarks += self._emptied()
            self._opened = undo.pop_all()
        filled = self.loaded.maps if pinned else {**self._shared.maps, **given.maps}
        empty = tailcalls.unfilled(self.loaded, filled)
        self.notes = source.notes + given.notes + remarks + empty
        self.member = Member(
            name=request.name or self.loaded.program_spec.name,
            program=self.loaded.program_spec.name,
            tag=self.loaded.program.info.tag,
            object=ObjectRef(source.shown, spec.sha256),
            priority=DEFAULT_PRIORITY if request.priority is None else request.priority,
            order=0,
            proceed_on=verdicts.names(request.hook, request.proceed_on),
            added_at=time.time(),
            maps=tuple((name, one.info.id) for name, one in self.loaded.maps.items()),
            kernel_btf=hashlib.sha256(types).hexdigest() if types else "",
        )

    def _emptied(self) -> tuple[str, ...]:
        """What to say of maps that lose something once nobody holds them, where no pin of netbpf's can."""
        spec = self.loaded.spec
        held = [
            (escape(name), spec.maps[name])
            for name in self.loaded.maps
            if mappinned.needs_holding(spec.maps[name], spec.btf)
        ]
        return tuple(mappinned.emptied(held)) if held and mappinned.directory() is None else ()

    def _on_error(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if error is not None:
            self._slots.undo()

    def keep(self) -> None:
        """Keep its object beside the records: the chain it is in will be linked anew from it."""
        records.keep_object(self.member.object.sha256, self.loaded.spec.data)
        if self._types:
            records.keep_object(self.member.kernel_btf, self._types)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._opened.__exit__(kind, error, trace)


def incoming(request: AttachRequest, session: Session) -> Iterator[Incoming]:
    """Load what a request names, one after the other; each has to be entered before the next is asked for.

    Settings of several objects go to the one that has the variable, and so do maps. Members whose maps are shared are
    looked for in the namespace of ``session``, and among those that came before. Raises what compiling and loading
    raise, ObjectError for settings of variables that none has, UsageError for those that several have.
    """
    pinned = [_pinned(one, request) for one in request.objects]
    sources = [
        found.source if found else find_source(one, request.compiler)
        for found, one in zip(pinned, request.objects, strict=True)
    ]
    specs = [ObjectSpec.open(one.path, one.name) for one in sources]
    # What is jumped to is not what is meant to be attached.
    tailcalls.fill(specs, request.tail_calls)
    programs = [
        spec.select(request.hook, found.pin.name if found else request.program).name
        for found, spec in zip(pinned, specs, strict=True)
    ]
    types = _kernel_types(request.kernel_btf)
    shares = settings.shares(specs, programs, request.settings)
    sizes = settings.shares_of_sizes(specs, request.map_sizes)
    names = [request.name or name for name in programs]
    wanted = mapsources.by_object(specs, names, mapsources.wishes(request.share, request.maps))
    calls = tailcalls.by_object(specs, request.tail_calls)
    came: list[Incoming] = []
    finder = Finder(session, lambda *asked: _sibling(request, came, *asked))
    for number, spec in enumerate(specs):
        settings.resize(spec, sizes[number])
        touched = settings.apply(spec, shares[number])
        fixed = {*touched, *(text.partition("=")[0] for text in sizes[number])}
        given = GivenMaps(spec, wanted[number], finder, fixed)
        one = Incoming(
            request, sources[number], spec, touched, types, given, calls[number], pinned[number]
        )
        came.append(one)
        yield one


def _pinned(argument: str, request: AttachRequest) -> "PinnedProgram | None":
    if not argument.startswith(PINNED):
        return None
    from netbpf.manager.pinned import check_request, find_pinned  # few need it, and all would pay

    check_request(request)
    return find_pinned(argument)


def _adopted(spec: ObjectSpec, program: ProgramSpec, hook: Hook, pinned: "PinnedProgram") -> Loaded:
    from netbpf.manager.pinned import adopt

    return adopt(spec, program, hook, pinned)


def _sibling(
    request: AttachRequest, came: list[Incoming], interface: str, hook: Hook, member: str
) -> dict[str, Map] | None:
    """The maps of a member that the same request brought before."""
    places = request.interfaces.split(",")
    if hook is not request.hook or not any(fnmatchcase(interface, one) for one in places):
        return None
    return next((one.loaded.maps for one in came if one.member.name == member), None)


def _kernel_types(path: Path | None) -> bytes | None:
    if path is None:
        return None
    try:
        return path.read_bytes()
    except OSError as error:
        raise ObjectError(
            f"cannot read kernel types {escape(str(path))}: {error.strerror}"
        ) from None
