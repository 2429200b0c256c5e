"""Bringing one program of an object into the kernel, with the maps it needs and nothing else.

A sibling that the verifier would reject, or that needs what this kernel lacks, is never touched.
"""

import errno
import os
from collections.abc import Collection, Iterable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Self

from netbpf._sys import bpf as sys_bpf
from netbpf._sys.capabilities import Capability, permission_error
from netbpf._sys.fd import Fd
from netbpf.bpf import insn as bpf
from netbpf.bpf import rejection
from netbpf.bpf.btf.fixup import for_kernel, for_old_kernel
from netbpf.bpf.cover.active import Answer, active
from netbpf.bpf.kinds import kind_of
from netbpf.bpf.linker import Image, link
from netbpf.bpf.map import Map
from netbpf.bpf.mapload import create, kernel_name
from netbpf.bpf.object import ObjectSpec, ProgramSpec
from netbpf.bpf.program import Program
from netbpf.constants import Hook, MapType
from netbpf.errors import KernelError, NotSupportedError, ObjectError, VerifierError
from netbpf.text import escape

if TYPE_CHECKING:
    from netbpf.bpf.core import Resolution

# Bytes, of memory that is only taken as the verifier writes. The kernel's limit is UINT_MAX >> 2; it was UINT_MAX >> 8.
_LOG_SIZES = ((1 << 30) - 1, (1 << 24) - 1)
_STATISTICS, _STATISTICS_SIZE = 4, 1 << 16  # BPF_LOG_STATS, and bytes for it: a few lines


@dataclass(slots=True)
class Prepared:
    """A program as it would be loaded: its code with maps, types and externs of this kernel in place. Owns the maps.

    The code is good as long as ``maps`` are open.
    """

    spec: ObjectSpec
    program_spec: ProgramSpec
    image: Image
    maps: dict[str, Map] = field(default_factory=dict)

    def close(self) -> None:
        """Let go of the maps."""
        for one in self.maps.values():
            one.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


@dataclass(slots=True)
class Loaded:
    """A program in the kernel with the maps it uses by their names in the object. Owns all of them.

    ``image`` is its code, with the descriptors of ``maps`` in it.
    """

    spec: ObjectSpec
    program_spec: ProgramSpec
    program: Program
    image: Image
    maps: dict[str, Map] = field(default_factory=dict)
    siblings: dict[str, Program] = field(default_factory=dict)

    def close(self) -> None:
        """Let go of everything; what is attached or pinned stays in the kernel."""
        for program in (self.program, *self.siblings.values()):
            program.close()
        for one in self.maps.values():
            one.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def load(
    spec: ObjectSpec,
    program: ProgramSpec,
    hook: Hook | None,
    *,
    reuse: Mapping[str, Map] | None = None,
    extra_maps: tuple[str, ...] = (),
    refill: Collection[str] = (),
    kernel_btf: Path | None = None,
) -> Loaded:
    """Load one program for a hook, whatever its section is called; for ``None`` as what its section says it is.

    ``reuse`` gives live maps to use in place of new ones (they are duplicated, the caller keeps its own);
    ``extra_maps`` are created and bound to the program though its code does not name them; ``refill`` are those of
    ``reuse`` into which their slots are written all the same; ``kernel_btf`` is the BTF file to relocate against
    instead of the running kernel's.
    Raises ObjectError, VerifierError, NotSupportedError, PermissionDeniedError.
    """
    with ExitStack() as undo:
        loader = _Loader(spec, hook, reuse or {}, kernel_btf, undo)
        loader.filled -= set(refill)
        loaded = loader.run(program, extra_maps)
        undo.pop_all()
        loader.release()
        return loaded


def prepare(
    spec: ObjectSpec,
    program: ProgramSpec,
    hook: Hook,
    *,
    reuse: Mapping[str, Map] | None = None,
    kernel_btf: Path | None = None,
) -> Prepared:
    """The code of one program and its maps, without loading it: what ``load`` would give to the kernel.

    Arguments and errors are those of ``load``, but for what only the verifier says.
    """
    with ExitStack() as undo:
        loader = _Loader(spec, hook, reuse or {}, kernel_btf, undo)
        prepared = loader.prepare(program)
        undo.pop_all()
        loader.release()
        return prepared


def verifier_log(loaded: Loaded, hook: Hook | None) -> str:
    """What the verifier says of a program that it accepts: every instruction it walked, and its statistics.

    Loads the program once more, with the same maps, and lets go of it; "" where the kernel does not take it again.
    """
    with ExitStack() as undo:
        loader = _Loader(loaded.spec, hook, loaded.maps, None, undo)
        if loader.btf:
            undo.callback(loader.btf.close)
        return loader.log(loaded.program_spec)


def make_maps(spec: ObjectSpec, names: Iterable[str]) -> dict[str, Map]:
    """Some of an object's maps as ``load`` would make them, variables with their initial values; slots are not filled.

    The caller closes them. Raises what ``load`` raises for maps.
    """
    with ExitStack() as undo:
        loader = _Loader(spec, None, {}, None, undo)
        maps = {name: loader.make(name) for name in names}
        undo.pop_all()
        loader.release()
        return maps


class _Loader:
    def __init__(
        self,
        spec: ObjectSpec,
        hook: Hook | None,
        reuse: Mapping[str, Map],
        kernel_btf: Path | None,
        undo: ExitStack,
    ) -> None:
        self.spec, self.hook, self.reuse, self.kernel_btf, self.undo = (
            spec,
            hook,
            reuse,
            kernel_btf,
            undo,
        )
        self.maps: dict[str, Map] = {}
        self.filled = set(reuse)
        self.programs: dict[str, Program] = {}
        self.images: dict[str, Image] = {}
        self.types_refused = ""
        self.prefix = Path(spec.path).name.split(".")[0]
        self.btf = self._load_btf()

    def release(self) -> None:
        if self.btf:
            self.btf.close()

    def run(self, program: ProgramSpec, extra_maps: tuple[str, ...]) -> Loaded:
        loaded = self._program(program)
        self.programs[program.name] = loaded
        for name in extra_maps:
            if name not in self.maps:
                self.make(name)
                sys_bpf.prog_bind_map(loaded.fd.fileno(), self.maps[name].fd.fileno())
        self._fill_slots()
        siblings = {name: one for name, one in self.programs.items() if one is not loaded}
        return Loaded(self.spec, program, loaded, self.images[program.name], self.maps, siblings)

    def prepare(self, program: ProgramSpec) -> Prepared:
        image, loaded = self._covered(program, self._code(program)[0])
        if loaded:
            loaded.close()
        self._fill_slots()
        for one in self.programs.values():
            one.close()  # the prog arrays have them now
        return Prepared(self.spec, program, image, self.maps)

    def log(self, program: ProgramSpec) -> str:
        image, _ = self._code(program)
        request = self._request(image, program)
        # Of a program that it accepts the verifier tells its steps at level 2 alone; where they are too many, the sum.
        for level in (2, 1):
            fd, _, raw = sys_bpf.prog_load(request, log_size=_LOG_SIZES[-1], log_level=level)
            if fd:
                fd.close()
                return raw.decode(errors="replace")
        return ""

    # --- types ---

    def _load_btf(self) -> Fd | None:
        if self.spec.btf is None:
            return None
        hidden = frozenset(f.name for f in self.spec.functions if f.hidden and not f.static)
        with self.spec.elf.named():
            data = for_kernel(self.spec.btf, hidden)
        fd, number, _ = sys_bpf.btf_load(data)
        if fd is None and number == errno.EPERM:
            raise permission_error("load types (BTF)", Capability.BPF)
        if fd is None:
            fd, _, _ = sys_bpf.btf_load(for_old_kernel(data))
        if fd is None:
            # A kernel without BTF, or one that refuses these types, still runs most programs without them.
            _, _, log = sys_bpf.btf_load(data, log_size=1 << 16)
            lines = log.decode(errors="replace").splitlines() or [os.strerror(number)]
            self.types_refused = escape(lines[-1].strip())
            return None
        self.undo.callback(fd.close)
        return fd

    # --- maps ---

    def make(self, name: str) -> Map:
        if name in self.maps:
            return self.maps[name]
        if name in self.reuse:
            made = Map(self.reuse[name].fd.duplicate())
        else:
            with self.spec.elf.named():
                made = create(self.spec.maps[name], self.prefix, self.btf)
        self.undo.callback(made.close)
        self.maps[name] = made
        return made

    def _fill_slots(self) -> None:
        """Static initialisers: programs into prog arrays, maps into maps of maps."""
        # What is put in may bring maps that have initialisers of their own.
        while waiting := [name for name in self.maps if name not in self.filled]:
            for name in waiting:
                self.filled.add(name)
                for index, target in self.spec.maps[name].slots.items():
                    self._fill(name, index, target)

    def _fill(self, name: str, index: int, target: str) -> None:
        number = self._slot(name, target).to_bytes(4, "little")
        try:
            self.maps[name].update(index.to_bytes(4, "little"), number)
        except KernelError as error:
            what = f"map {escape(name)} of {self.spec.elf.origin} does not take {escape(target)} at index {index}"
            raise ObjectError(
                f"{what}: {error.message}",
                hint="programs of a prog array need one type and one xdp.frags; maps of a map one type, size and flags",
            ) from None

    def _slot(self, name: str, target: str) -> int:
        if self.spec.maps[name].type != MapType.PROG_ARRAY:
            if target not in self.spec.maps:
                raise self._no_slot(name, target, "map")
            return self.make(target).fd.fileno()
        if target not in self.programs:
            spec = next((one for one in self.spec.programs if one.name == target), None)
            if spec is None:
                raise self._no_slot(name, target, "program")
            self.programs[target] = self._program(spec)
        return self.programs[target].fd.fileno()

    def _no_slot(self, name: str, target: str, kind: str) -> ObjectError:
        return self.spec.elf.fail(
            f"map {escape(name)} is initialised with {escape(target)}, which is no {kind}"
        )

    # --- the program ---

    def _code(self, program: ProgramSpec) -> "tuple[Image, list[Resolution]]":
        image = link(self.spec, program.function)
        resolutions = self._relocate(image, program) if image.relocations else []
        if image.externs:
            self._resolve_externs(image, program)
        for ref in image.maps:
            self._patch_map(image, ref.at, self.make(ref.map).fd.fileno(), ref.offset)
        return image, resolutions

    def _program(self, program: ProgramSpec) -> Program:
        image, resolutions = self._code(program)
        image, fd = self._covered(program, image)
        self.images[program.name] = image
        try:
            fd = fd or self._load(program, self._request(image, program))
        except VerifierError as error:
            missing = self._missing(program, image, resolutions, error.log)
            raise missing or self._taught(program, image, error) from None
        self.undo.callback(fd.close)
        return Program(fd)

    def _covered(self, program: ProgramSpec, image: Image) -> tuple[Image, Fd | None]:
        """The code with probes, while somebody collects what is covered, and the program if it is loaded already."""
        instrument = active()
        if instrument is None:
            return image, None
        with ExitStack() as unwanted:
            taken: list[tuple[Image, Fd]] = []

            def submit(made: Image, statistics: bool) -> Answer:
                size, level = (_STATISTICS_SIZE, _STATISTICS) if statistics else (0, 1)
                request = self._request(made, program)
                fd, number, raw = sys_bpf.prog_load(request, log_size=size, log_level=level)
                if number == errno.EINVAL and request.btf_fd:
                    # As below: a kernel that does not take what is said of functions and lines may take the code.
                    plain = request._replace(btf_fd=0, func_info=b"", line_info=b"")
                    fd, number, raw = sys_bpf.prog_load(plain, log_size=size, log_level=level)
                if fd:
                    unwanted.callback(fd.close)
                    taken.append((made, fd))
                return Answer(number, raw.decode(errors="replace"))

            found = instrument.instrument(self.spec, program, image, submit)
            fd = next((fd.duplicate() for made, fd in taken if made is found), None)
        return found, fd

    def _missing(
        self, program: ProgramSpec, image: Image, resolutions: "list[Resolution]", log: str
    ) -> NotSupportedError | None:
        """The rejection of a program in whose way stands something that this kernel does not have."""
        name = f"program {escape(program.name)} of {self.spec.elf.origin}"
        if resolutions:
            from netbpf.bpf.core import blame, needs

            if poisoned := blame(log, resolutions):
                return NotSupportedError(f"this kernel cannot run {name}: {needs(poisoned)}")
        if image.externs:
            from netbpf.bpf.externs import absent

            if function := absent(log, image):
                return NotSupportedError(
                    f"this kernel cannot run {name}: it calls {escape(function)}, which the kernel does not have"
                )
        return None

    def _taught(self, program: ProgramSpec, image: Image, error: VerifierError) -> VerifierError:
        name = f"program {escape(program.name)} of {self.spec.elf.origin}"
        kind = "" if self.hook is None else "xdp" if self.hook is Hook.XDP else "tc"
        code = rejection.code_of(image, self.spec, program.name, kind)
        return rejection.taught(error, name, code, types_refused=bool(self.types_refused))

    @staticmethod
    def _patch_map(image: Image, index: int, fd: int, offset: int | None) -> None:
        source = bpf.PSEUDO_MAP_FD if offset is None else bpf.PSEUDO_MAP_VALUE
        bpf.write(image.insns, index, bpf.read(image.insns, index)._replace(src=source, imm=fd))
        bpf.set_imm(image.insns, index + 1, offset or 0)

    def _relocate(self, image: Image, program: ProgramSpec) -> "list[Resolution]":
        from netbpf.bpf.core import relocate_image  # only objects with CO-RE relocations pay for it

        return relocate_image(image, self.spec, program.name, self.kernel_btf)

    def _resolve_externs(self, image: Image, program: ProgramSpec) -> None:
        from netbpf.bpf.externs import resolve

        with self.spec.elf.named():
            resolve(image, self.spec, program.name)

    def _request(self, image: Image, program: ProgramSpec) -> sys_bpf.ProgLoad:
        # The kernel wants the records of every function or of none.
        typed = self.btf is not None and all(one.type_id for one in image.functions)
        kind = kind_of(program, self.hook, self.spec.elf.origin)
        return sys_bpf.ProgLoad(
            prog_type=kind.type,
            insns=bytes(image.insns),
            license=self.spec.license,
            name=kernel_name("", program.name),
            expected_attach_type=kind.attach_type,
            flags=kind.flags,
            btf_fd=self.btf.fileno() if typed and self.btf else 0,
            func_info=b"".join(
                one.at.to_bytes(4, "little") + one.type_id.to_bytes(4, "little") for one in image.functions
            ) if typed else b"",
            line_info=b"".join(
                b"".join(word.to_bytes(4, "little") for word in line) for line in sorted(image.lines)
            ) if typed else b"",
            attach_btf_id=kind.attach_btf_id,
        )  # fmt: skip

    def _load(self, program: ProgramSpec, request: sys_bpf.ProgLoad) -> Fd:
        fd, number, _ = sys_bpf.prog_load(request)
        if fd:
            return fd
        log = ""
        for size in _LOG_SIZES:
            try:
                fd, number, raw = sys_bpf.prog_load(request, log_size=size)
            except OSError as error:
                if error.errno != errno.ENOMEM:  # address space may be limited
                    raise
                continue
            if fd:
                return fd
            log = raw.decode(errors="replace")
            # A log larger than the kernel takes is EINVAL before it looks at anything.
            if log or number != errno.EINVAL:
                break
        if request.btf_fd and rejection.about_types(log):
            return self._load(program, request._replace(btf_fd=0, func_info=b"", line_info=b""))
        name = f"program {escape(program.name)} of {self.spec.elf.origin}"
        raise rejection.explain(name, request, number, log, types_refused=self.types_refused)
