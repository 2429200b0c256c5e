"""The programs an attach brings: found, set, loaded alone, and ready to run by themselves or in a chain."""

import hashlib
import time
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Self

from netbpf.bpf.chain import verdicts
from netbpf.bpf.loader import Loaded, load
from netbpf.bpf.object import ObjectSpec
from netbpf.constants import MapType
from netbpf.errors import ObjectError
from netbpf.manager import settings
from netbpf.manager.mappins import SharedMaps
from netbpf.manager.request import AttachRequest
from netbpf.manager.sources import Source, find_source
from netbpf.model import Member, ObjectRef
from netbpf.state import records
from netbpf.text import escape

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
    ) -> None:
        """Load it; ``touched`` are sections that settings were written to, ``types`` the kernel types to use."""
        self._shared = SharedMaps(request.pin_maps, spec)
        self._types = types
        try:
            self.loaded: Loaded = load(
                spec,
                spec.select(request.hook, request.program),
                request.hook,
                reuse=self._shared.maps,
                extra_maps=touched,
                kernel_btf=request.kernel_btf,
            )
        except BaseException as error:
            self._shared.__exit__(type(error), error, None)
            raise
        self.notes = source.notes + self._shared.pin_new(self.loaded) + self._emptied(request)
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

    def _emptied(self, request: AttachRequest) -> tuple[str, ...]:
        """What to say of prog arrays that were filled from the object and that no pin holds."""
        if request.pin_maps:
            return ()
        return tuple(
            f"map {escape(name)}: the kernel empties a prog array once the last process that has it open ends, "
            "and its tail calls then do nothing"
            for name, spec in self.loaded.spec.maps.items()
            if name in self.loaded.maps and spec.type == MapType.PROG_ARRAY and spec.slots
        )

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
        self.loaded.close()
        self._shared.__exit__(kind, error, trace)


def incoming(request: AttachRequest) -> Iterator[Incoming]:
    """Load what a request names, one after the other; each has to be entered before the next is asked for.

    Settings of several objects go to the one that has the variable. Raises what compiling and loading raise,
    ObjectError for settings of variables that none has, UsageError for those that several have.
    """
    sources = [find_source(one, request.compiler) for one in request.objects]
    specs = [ObjectSpec.open(one.path) for one in sources]
    programs = [spec.select(request.hook, request.program).name for spec in specs]
    types = _kernel_types(request.kernel_btf)
    shares = settings.shares(specs, programs, request.settings)
    sizes = settings.shares_of_sizes(specs, request.map_sizes)
    for source, spec, share, size in zip(sources, specs, shares, sizes, strict=True):
        settings.resize(spec, size)
        yield Incoming(request, source, spec, settings.apply(spec, share), types)


def _kernel_types(path: Path | None) -> bytes | None:
    if path is None:
        return None
    try:
        return path.read_bytes()
    except OSError as error:
        raise ObjectError(
            f"cannot read kernel types {escape(str(path))}: {error.strerror}"
        ) from None
