"""An object file as plain data: its programs, maps, variables, license and types. Nothing here asks the kernel."""

import os
from bisect import bisect_right
from dataclasses import dataclass
from pathlib import Path

from netbpf.bpf.btf.ext import BtfExt, parse_ext
from netbpf.bpf.btf.fixup import fix_sections
from netbpf.bpf.btf.types import Btf
from netbpf.bpf.elf import (
    SHN_UNDEF,
    STB_LOCAL,
    STT_FUNC,
    STT_NOTYPE,
    STV_HIDDEN,
    STV_INTERNAL,
    Elf,
    Section,
    read_file,
)
from netbpf.bpf.mapdefs import MapSpec, collect_maps, fill_slots, fill_tails
from netbpf.bpf.sections import Declared, declared, fits
from netbpf.constants import Hook, ProgType
from netbpf.errors import ObjectError
from netbpf.text import did_you_mean, escape

INSN_SIZE = 8
MAX_BTF_SIZE = 16 << 20  # bytes; BTF_MAX_SIZE of kernel/bpf/btf.c


@dataclass(frozen=True, slots=True)
class Function:
    """Code with a name: ``start`` and ``size`` are bytes within section ``section``."""

    name: str
    section: int
    start: int
    size: int
    static: bool = False
    hidden: bool = False


@dataclass(frozen=True, slots=True)
class ProgramSpec:
    """A function the kernel can run at a hook, and what its section says of it."""

    name: str
    section: str
    function: Function
    declared: Declared


class ObjectSpec:
    """A parsed object. Maps may be changed before loading (sizes, initial content); the rest is as in the file.

    ObjectError from any constructor says what is wrong with the file.
    """

    def __init__(self, data: bytes, path: str = "object") -> None:
        self.path = path
        self.data = data
        self.elf = Elf(data, Path(path).name)
        self.license = self._license()
        with self.elf.named():
            self.btf = self._btf()
            self.ext = self._ext()
            self._func_types = self._types_of_functions()
            self.functions = self._functions()
            self.maps: dict[str, MapSpec] = collect_maps(self.elf, self.btf)
            self.programs = self._programs()
            fill_slots(self.elf, self.maps, self.btf)
            fill_tails(self.maps, {program.section: program.name for program in self.programs})

    @classmethod
    def open(cls, path: str | os.PathLike[str], name: str | None = None) -> "ObjectSpec":
        """Read and parse an object file; ``name`` is what to call it where that is not its path, such as its source."""
        return cls(read_file(path), name or os.fspath(path))

    @property
    def sha256(self) -> str:
        """The content's SHA-256 in hex, by which records name the object."""
        import hashlib  # OpenSSL with it: 4 ms

        return hashlib.sha256(self.data).hexdigest()

    # --- parts of the file ---

    def _license(self) -> str:
        section = self.elf.section("license")
        if section is None:
            return ""
        content = self.elf.content(section)
        if b"\0" not in content:
            raise self.elf.fail(
                "its license is not closed by a NUL byte",
                hint='write: char _license[] SEC("license") = "GPL";',
            )
        return content[: content.index(b"\0")].decode(errors="backslashreplace")

    def _btf(self) -> Btf | None:
        section = self.elf.section(".BTF")
        if section is None or not section.size:
            return None
        if section.size > MAX_BTF_SIZE:
            raise self.elf.fail(f"has {section.size} bytes of BTF; the kernel takes {MAX_BTF_SIZE}")
        sizes = {one.name: one.size for one in self.elf.sections}
        offsets = {
            (self.elf.sections[symbol.section].name, symbol.name): symbol.value
            for symbol in self.elf.symbols
            if SHN_UNDEF < symbol.section < len(self.elf.sections)
        }
        return fix_sections(
            self.elf.content(section), sizes.get, lambda name, symbol: offsets.get((name, symbol))
        )

    def _ext(self) -> BtfExt | None:
        section = self.elf.section(".BTF.ext")
        if section is None or self.btf is None or not section.size:
            return None
        return parse_ext(self.elf.content(section), self.btf)

    def _functions(self) -> list[Function]:
        found: list[Function] = []
        for section in self.elf.sections:
            if section.executable and section.size:
                found += self._functions_in(section)
        return found

    def _functions_in(self, section: Section) -> list[Function]:
        inside = self.elf.symbols_in(section.number)
        functions = [symbol for symbol in inside if symbol.type == STT_FUNC]
        if not functions:
            # clang before 9 gave functions no type; their sizes are missing too.
            functions = [
                s for s in inside if s.type == STT_NOTYPE and s.binding != STB_LOCAL and s.name
            ]
        starts = [*sorted({symbol.value for symbol in functions}), section.size]
        found = []
        for symbol in sorted(functions, key=lambda one: one.value):
            size = (
                symbol.size
                or starts[bisect_right(starts, symbol.value, hi=len(starts) - 1)] - symbol.value
            )
            name = escape(symbol.name)
            if symbol.value + size > section.size:
                raise self.elf.fail(
                    f"function {name} ends outside its section {escape(section.name)}"
                )
            if size <= 0:
                raise self.elf.fail(f"function {name} has no instructions")
            if symbol.value % INSN_SIZE or size % INSN_SIZE:
                raise self.elf.fail(
                    f"function {name} has {size} bytes at offset {symbol.value}: not whole instructions"
                )
            found.append(
                Function(
                    symbol.name, section.number, symbol.value, size,
                    static=symbol.binding == STB_LOCAL, hidden=symbol.visibility in (STV_HIDDEN, STV_INTERNAL),
                )
            )  # fmt: skip
        return found

    def _programs(self) -> list[ProgramSpec]:
        names = {section.number: section.name for section in self.elf.sections}
        # Functions of .text are subprograms, and so are static ones, unless there is nothing else.
        outside_text = [f for f in self.functions if names[f.section] != ".text"]
        outside = [f for f in outside_text if not f.static]
        programs = []
        for function in outside or outside_text or self.functions:
            section = names[function.section]
            kind = declared(section, self.btf, self.func_type_id(function))
            programs.append(ProgramSpec(function.name, section, function, kind))
        return programs

    def _types_of_functions(self) -> dict[tuple[str, int], int]:
        if self.ext is None:
            return {}
        return {
            (name, at): type_id
            for name, records in self.ext.funcs.items()
            for at, type_id in records
        }

    def func_type_id(self, function: Function) -> int | None:
        """The BTF id of a function's FUNC type, or None without .BTF.ext."""
        return self._func_types.get((self.elf.sections[function.section].name, function.start))

    # --- choosing ---

    def select(self, hook: Hook, name: str | None = None) -> ProgramSpec:
        """The program meant for a hook: the one named, or the only one that fits. ObjectError otherwise."""
        origin = self.elf.origin
        if not self.programs:
            raise ObjectError(
                f"{origin} holds no program",
                hint='give a function a section: SEC("xdp") or SEC("tc")',
            )
        if name is not None:
            return self._named(hook, name)
        fitting = [program for program in self.programs if fits(program.declared, hook)]
        if len(fitting) > 1:
            direction = hook.value.partition("/")[2]
            targets = {target for one in self.maps.values() for target in one.slots.values()}
            for better in (
                # A section that names its direction, or its type, was meant more than one that says nothing;
                # what another program jumps to was not meant at all.
                [p for p in fitting if direction and p.declared.direction == direction],
                [p for p in fitting if p.declared.type is not ProgType.UNSPEC],
                [p for p in fitting if p.name not in targets],
                [
                    p
                    for p in fitting
                    if p.declared.type is not ProgType.UNSPEC and p.name not in targets
                ],
            ):
                if len(better) == 1:
                    return better[0]
        if len(fitting) == 1:
            return fitting[0]
        if not fitting:
            kinds = ", ".join(f"{escape(p.name)} ({_kind(p)})" for p in self.programs[:8])
            raise ObjectError(
                f"{origin} holds no program for {hook}: {kinds}", hint=_other_hook(self.programs)
            )
        names = ", ".join(f"{escape(p.name)} (section {escape(p.section)})" for p in fitting[:20])
        more = f" and {len(fitting) - 20} more" if len(fitting) > 20 else ""
        raise ObjectError(
            f"{origin} holds {len(fitting)} programs that fit {hook}: {names}{more}",
            hint="choose one with -n NAME",
        )

    def named(self, name: str) -> list[ProgramSpec]:
        """The program that is called so, or all of a section; ObjectError where there is neither."""
        found = [p for p in self.programs if p.name == name] or [
            p for p in self.programs if p.section == name
        ]
        if not found:
            raise ObjectError(
                f"{self.elf.origin} holds no program '{escape(name)}'",
                hint=did_you_mean(name, (p.name for p in self.programs), "its programs are"),
            )
        return found

    def _named(self, hook: Hook, name: str) -> ProgramSpec:
        found = self.named(name)
        if len(found) > 1:
            raise ObjectError(
                f"{self.elf.origin} holds {len(found)} programs '{escape(name)}'",
                hint="choose by function name",
            )
        if not fits(found[0].declared, hook):
            raise ObjectError(
                f"{escape(name)} is a {_kind(found[0])} program; {hook} runs {_hook_kind(hook)} programs",
                hint=_other_hook(found),
            )
        return found[0]


def _hook_kind(hook: Hook) -> str:
    return "xdp" if hook is Hook.XDP else "tc"


def _kind(program: ProgramSpec) -> str:
    match program.declared.type:
        case ProgType.XDP:
            target = program.declared.attach_type.name.removeprefix("XDP").strip("_").lower()
            return f"xdp/{target}" if target else "xdp"
        case ProgType.SCHED_CLS | ProgType.SCHED_ACT:
            return "tc"
        case ProgType.UNSPEC:
            return f"section {escape(program.section)}"
        case other:
            return other.name.lower()


def _other_hook(programs: list[ProgramSpec]) -> str | None:
    for hook, command in ((Hook.XDP, "netbpf attach xdp"), (Hook.TC_INGRESS, "netbpf attach tc")):
        if any(fits(program.declared, hook) for program in programs):
            return f"attach it with: {command} IFACE OBJECT"
    return None
