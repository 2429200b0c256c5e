"""Where types come from: programs, maps and BTF of the kernel, the kernel itself, its modules, and files."""

import errno
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from netbpf._sys import bpf as sys_bpf
from netbpf._sys.capabilities import Capability, permission_error
from netbpf._sys.describe import btf_details
from netbpf._sys.fd import Fd
from netbpf._sys.info import btf_bytes
from netbpf.bpf.btf.files import read_btf
from netbpf.bpf.btf.header import guard_of, header
from netbpf.bpf.btf.kernel import VMLINUX, kernel_btf
from netbpf.bpf.btf.listing import Fields, described, named, reachable
from netbpf.bpf.btf.types import Btf, BtfType
from netbpf.bpf.pin import is_bpffs
from netbpf.errors import KernelError, NotAttachedError, ObjectError, UsageError
from netbpf.insight.choose import parse
from netbpf.text import did_you_mean, escape

_PARTS = ("key", "value", "kv", "all")
_WORDS = ("id", "prog", "program", "map", "file", "module")
_FORMS = "such as vmlinux, prog xdp_count, map flows, id 17, file prog.bpf.o"


@dataclass(frozen=True, slots=True)
class Types:
    """The types of one BTF. ``name`` says whose; ``roots`` are those that are meant, None: all of them.

    ``kernel`` says that they are the kernel's or a module's.
    """

    btf: Btf
    name: str
    kernel: bool = False
    roots: tuple[int, ...] | None = None

    def only(self, names: Sequence[str]) -> "Types":
        """Only the types of some names, with what they need. ObjectError for a name that no type has."""
        if not names:
            return self
        roots = tuple(dict.fromkeys(one.id for name in names for one in named(self.btf, name)))
        return Types(self.btf, self.name, self.kernel, roots)

    def _chosen(self) -> Iterator[BtfType]:
        if self.roots is None:
            yield from self.btf.types()
        else:
            yield from reachable(self.btf, self.roots)

    def described(self) -> Iterator[Fields]:
        """Each type with the field names of ``bpftool -j btf dump``. Raises ObjectError for what is malformed."""
        return described(self.btf, self._chosen())

    def header(self) -> Iterator[str]:
        """The pieces of a C header. Raises ObjectError for types that no C has."""
        roots = None if self.roots is None else [self.btf.type(one) for one in self.roots]
        return header(
            self.btf, guard=guard_of(f"{self.name}_h"), roots=roots, relocatable=self.kernel,
            functions=self.kernel and roots is None,
        )  # fmt: skip


def types_of(words: Sequence[str], base: Path | None = None) -> Types:
    """What ``netbpf btf dump`` was asked for: ``vmlinux``, ``prog NAME``, ``map flows value``, ``id 17``, a file ...

    ``base`` is the file whose types a split BTF in a file continues. Raises UsageError for what names nothing,
    NotAttachedError, ObjectError where there is no BTF, PermissionDeniedError.
    """
    if not words:
        raise UsageError("whose types?", hint=_FORMS)
    word, rest = words[0], list(words[1:])
    if word in ("prog", "program", "map") and rest:
        return _of_program(rest) if word != "map" else _of_map(rest)
    if word in _WORDS:
        if len(rest) != 1:
            raise UsageError(f"{word} takes one word behind it", hint=_FORMS)
        return _of_word(word, rest[0], base)
    if rest:
        raise UsageError(
            f"{' '.join(map(escape, words))}: first comes whose types are meant", hint=_FORMS
        )
    return _of_word(_kind(word), word, base)


def _kind(word: str) -> str:
    if word.isascii() and word.isdecimal():
        return "id"
    path = Path(word)
    if "/" not in word and (VMLINUX.parent / word).exists() and not path.is_file():
        return "module"
    if "/" in word or path.exists():
        if is_bpffs(path):
            raise UsageError(
                f"{escape(word)} is a pin", hint="say of what: netbpf btf dump prog PIN, or map PIN"
            )
        return "file"
    modules = [one.name for one in _modules()]
    hint = did_you_mean(word, modules, "modules are") or _FORMS
    raise UsageError(f"there is no file {escape(word)} and no module of that name", hint=hint)


def _modules() -> list[Path]:
    try:
        return sorted(VMLINUX.parent.iterdir())
    except OSError:
        return []


def _of_word(kind: str, word: str, base: Path | None) -> Types:
    if kind == "id":
        return _of_id(word)
    if kind == "file":
        path = Path(word)
        return Types(read_btf(path, read_btf(base) if base else None), path.stem)
    if word == VMLINUX.name:
        return Types(kernel_btf(), word, kernel=True)
    path = VMLINUX.parent / word
    if "/" in word or not path.exists():
        hint = did_you_mean(word, (one.name for one in _modules()), "there are")
        raise ObjectError(f"no module {escape(word)} with BTF is loaded", hint=hint)
    return Types(read_btf(path, kernel_btf()), word, kernel=True)


def _of_id(word: str) -> Types:
    if not word.isdecimal():
        raise UsageError(f"{escape(word)!r} is no id")
    with open_btf(int(word)) as fd:
        details = btf_details(fd.fileno())
        base = kernel_btf() if details.kernel and details.name != VMLINUX.name else None
        name = details.name or f"btf_{details.id}"
        return Types(Btf(btf_bytes(fd.fileno()), base), name, details.kernel)


def open_btf(number: int) -> Fd:
    """A BTF by its id; NotAttachedError where it is gone, PermissionDeniedError without CAP_SYS_ADMIN."""
    try:
        return sys_bpf.fd_by_id("BTF", number)
    except KernelError as error:
        if error.errno == errno.ENOENT:
            raise NotAttachedError(f"BTF {number} does not exist any more") from None
        if error.errno == errno.EPERM:
            raise permission_error(f"open BTF {number}", Capability.SYS_ADMIN) from None
        raise


def _of_program(words: list[str]) -> Types:
    from netbpf.insight.kernel import open_program

    with open_program(parse(words)) as program:
        info = program.info
        # While it is open, nothing else can have got the id of its BTF.
        return _held(info.btf_id, info.name, f"program {info.id} ({escape(info.name)})")


def _of_map(words: list[str]) -> Types:
    from netbpf.insight.kernel import open_map

    part = words.pop() if len(words) > 1 and words[-1] in _PARTS else "kv"
    with open_map(parse(words)) as opened:
        info = opened.info
        found = _held(info.btf_id, info.name, f"map {info.id} ({escape(info.name)})")
    if part == "all":
        return found
    ids = {"key": [info.btf_key_type_id], "value": [info.btf_value_type_id]}
    wanted = ids.get(part, ids["key"] + ids["value"])
    return Types(found.btf, found.name, roots=tuple(dict.fromkeys(one for one in wanted if one)))


def _held(number: int, name: str, what: str) -> Types:
    if not number:
        raise ObjectError(f"{what} has no BTF", hint="compile with -g; netbpf compile does")
    with open_btf(number) as fd:
        return Types(Btf(btf_bytes(fd.fileno())), name)
