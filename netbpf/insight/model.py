"""The values of ``inspect``: an object file as a person wants to know it."""

from dataclasses import dataclass

from netbpf.bpf.btf.values import Value


@dataclass(frozen=True, slots=True)
class Need:
    """Something that a program wants of the kernel. ``here``: whether this kernel has it, None where it did not say.

    ``since`` is the Linux version it came with, "" where that is not known; ``why`` says more where it is missing.
    ``optional``: the program loads without it.
    """

    name: str
    here: bool | None
    since: str = ""
    why: str = ""
    optional: bool = False


@dataclass(frozen=True, slots=True)
class Subprogram:
    """A function that a program calls, directly or through others. ``insns`` counts slots of 8 bytes."""

    name: str
    section: str
    insns: int
    static: bool


@dataclass(frozen=True, slots=True)
class CoreRelocation:
    """A CO-RE relocation: the instruction (byte ``offset`` in ``section``), what it asks for, what this kernel has.

    ``found`` is None where the kernel has nothing like it: the program runs only if it never gets there. ``old`` is
    the number that the compiler wrote, ``new`` the one for this kernel; ``why`` says why there is none.
    """

    section: str
    offset: int
    kind: str
    text: str
    found: str | None
    old: int | None
    new: int | None
    why: str = ""


@dataclass(frozen=True, slots=True)
class ObjectProgram:
    """A program: its section, type and attach type in small letters ("" where the section says none).

    ``insns`` and ``total_insns`` count slots of 8 bytes, without and with its subprograms. ``problem`` says what of its
    code makes no sense, "" where all does.
    """

    name: str
    section: str
    type: str
    attach_type: str
    insns: int
    total_insns: int
    subprograms: tuple[Subprogram, ...]
    maps: tuple[str, ...]
    helpers: tuple[Need, ...]
    kernel_functions: tuple[Need, ...]
    features: tuple[Need, ...]
    relocations: int
    problem: str = ""


@dataclass(frozen=True, slots=True)
class ObjectMap:
    """A map definition. Types are C's words for them, "" where the object does not say; sizes in bytes.

    ``here``: whether this kernel makes such maps, None where it did not say.
    """

    name: str
    type: str
    key: str
    value: str
    key_size: int
    value_size: int
    max_entries: int
    flags: tuple[str, ...]
    pinning: str
    here: bool | None
    why: str = ""


@dataclass(frozen=True, slots=True)
class ObjectVariable:
    """A global variable and what it is at the start. ``description`` is its ``btf_decl_tag``, "" without one.

    Without BTF ``type`` is "" and ``default`` the bytes in hex.
    """

    name: str
    section: str
    type: str
    size: int
    default: Value
    writable: bool
    static: bool
    description: str = ""


@dataclass(frozen=True, slots=True)
class BtfSummary:
    """How much the object says of its types: bytes, types, and functions and lines with a source position."""

    size: int
    types: int
    functions: int
    lines: int


@dataclass(frozen=True, slots=True)
class ObjectReport:
    """All of it. ``gpl`` says whether the kernel counts the license as compatible with the GPL.

    ``unresolved`` says why the relocations could not be compared with this kernel, "" where they could.
    """

    path: str
    size: int
    sha256: str
    license: str
    gpl: bool
    btf: BtfSummary | None
    programs: tuple[ObjectProgram, ...]
    maps: tuple[ObjectMap, ...]
    variables: tuple[ObjectVariable, ...]
    relocations: tuple[CoreRelocation, ...]
    unresolved: str = ""
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class SourceLine:
    """A line of source. ``line`` and ``column`` count from 1, 0 where the compiler knew none."""

    file: str
    text: str
    line: int
    column: int


@dataclass(frozen=True, slots=True)
class CodeLine:
    """An instruction: index in slots of 8 bytes, bytes in hex, text; ``source`` where a new line of source begins.

    ``note`` is the name of the map that it refers to, where its text has only a number.
    """

    index: int
    opcodes: str
    text: str
    source: SourceLine | None = None
    note: str = ""


@dataclass(frozen=True, slots=True)
class Listing:
    """The code of a function; ``prototype`` is its C declaration, or its name where no BTF tells more."""

    name: str
    section: str
    prototype: str
    lines: tuple[CodeLine, ...]


@dataclass(frozen=True, slots=True)
class Header:
    """A row of the ELF section table; ``flags`` as readelf writes them."""

    number: int
    name: str
    type: str
    flags: str
    offset: int
    size: int
    entry_size: int
    link: int
    info: int
    align: int


@dataclass(frozen=True, slots=True)
class SymbolRow:
    """A row of the symbol table; ``section`` is a section's name, "UND", "ABS" or "COM"."""

    number: int
    name: str
    value: int
    size: int
    type: str
    binding: str
    visibility: str
    section: str


@dataclass(frozen=True, slots=True)
class ElfHeaders:
    """What readelf shows of a file: header fields by name, sections, symbols."""

    fields: tuple[tuple[str, str], ...]
    sections: tuple[Header, ...]
    symbols: tuple[SymbolRow, ...]
