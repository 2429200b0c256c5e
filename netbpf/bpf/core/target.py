"""Where the kernel's types come from: the running kernel and its modules, or a file."""

import os
import struct
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import BinaryIO

from netbpf.bpf.btf.kernel import VMLINUX, kernel_btf
from netbpf.bpf.btf.types import Btf, Kind
from netbpf.bpf.core.relocation import essential_name, same_kind
from netbpf.errors import ObjectError
from netbpf.text import escape

MAX_BTF_SIZE = 64 << 20  # bytes; a distribution's kernel has about 6 MB
_ELF_HEADER = struct.Struct("<16sHHIQQQIHHHHHH")
_ELF_SECTION = struct.Struct("<IIQQQQIIQQ")
_LONG = ("long unsigned int", "unsigned long")


class Module:
    """Types of a kernel module, read only where they may be needed. ``read`` gives its split BTF, raw."""

    def __init__(self, name: str, read: Callable[[], bytes]) -> None:
        self.name = name
        self._read = read
        self._data: bytes | None = None
        self._btf: Btf | None = None

    def btf(self, base: Btf, name: str) -> Btf | None:
        """The module's types, or None where surely none of them is called ``name`` or a flavor of it."""
        if self._btf is None:
            if self._data is None:
                self._data = self._read()
            raw = name.encode(errors="backslashreplace")
            # A name the kernel has too stands in the kernel's strings; the module only holds its offset.
            offsets = (one.to_bytes(4, "little") for one in base.name_offsets(name, flavors=True))
            if raw not in self._data and not any(one in self._data for one in offsets):
                return None
            self._btf = Btf(self._data, base)
            self._btf.pointer_size = base.pointer_size
        return self._btf


class Target:
    """The types that relocations are resolved against.

    ``main`` is asked for the kernel's own types, ``modules`` for those of modules, each once and only when
    needed: modules only for a type that the kernel itself does not have.
    """

    def __init__(
        self, main: Callable[[], Btf], modules: Callable[[], Iterable[Module]] = tuple
    ) -> None:
        self._read_main, self._read_modules = main, modules
        self._main: Btf | None = None
        self._modules: list[Module] | None = None

    @property
    def main(self) -> Btf:
        """The kernel's own types; NotSupportedError where it does not tell them."""
        if self._main is None:
            self._main = self._read_main()
        return self._main

    def candidates(self, name: str, kind: Kind) -> list[tuple[Btf, int]]:
        """Every type of that kind with the same essential name, as (BTF, type id)."""
        found = list(_candidates(self.main, name, kind))
        if found:
            return found
        if self._modules is None:
            self._modules = list(self._read_modules())
        for module in self._modules:
            btf = module.btf(self.main, essential_name(name))
            if btf is not None:
                found += _candidates(btf, name, kind)
        return found


def _candidates(btf: Btf, name: str, kind: Kind) -> Iterator[tuple[Btf, int]]:
    essential = essential_name(name)
    for type_id in btf.named(btf.name_offsets(essential, flavors=True)):
        found = btf.type(type_id)
        if same_kind(found.kind, kind) and essential_name(found.name) == essential:
            yield btf, type_id


def running_kernel() -> Target:
    """The kernel this runs on: /sys/kernel/btf (Linux 5.4; modules 5.11)."""
    return Target(kernel_btf, lambda: kernel_modules(VMLINUX.parent))


def kernel_modules(directory: Path) -> list[Module]:
    """Every module that tells its types there, in the order of their names."""
    try:
        names = sorted(entry.name for entry in directory.iterdir())
    except OSError:
        return []
    return [
        Module(name, partial(_read_module, directory / name))
        for name in names
        if name != VMLINUX.name
    ]


def _read_module(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return b""  # unloaded meanwhile


def kernel_file(path: Path) -> Target:
    """A kernel's types from a file: raw BTF, or an ELF file (vmlinux) with a ``.BTF`` section.

    ObjectError where the file cannot be read or has no types.
    """
    return Target(lambda: read_types(path))


def read_types(path: Path) -> Btf:
    """The types in a file, see ``kernel_file``."""
    name = escape(str(path))
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        with open(fd, "rb") as file:
            start = file.read(_ELF_HEADER.size)
            if start[:4] == b"\x7fELF":
                data = _section(file, start, name)
            else:
                data = start + file.read(MAX_BTF_SIZE)
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else error
        raise ObjectError(f"cannot read kernel types from {name}: {why}") from None
    try:
        btf = Btf(data)
    except ObjectError as error:
        raise ObjectError(f"{name}: {error.message}") from None
    btf.pointer_size = next(
        (one.size_or_type for long in _LONG for one in btf.find(long, Kind.INT)), 8
    )
    return btf


def _section(file: BinaryIO, start: bytes, name: str) -> bytes:
    """The content of ``.BTF``; only that is read of a file that may have gigabytes of debug information."""
    if len(start) < _ELF_HEADER.size or start[4:6] != b"\x02\x01":
        raise ObjectError(f"{name} is no 64-bit little-endian ELF file")
    header = _ELF_HEADER.unpack(start)
    table, entry_size, count, names_index = header[6], header[11], header[12], header[13]
    if entry_size != _ELF_SECTION.size:
        raise ObjectError(f"{name} has no section table")
    raw = _read_at(file, table, entry_size * count, name)
    sections = list(_ELF_SECTION.iter_unpack(raw))
    if names_index >= len(sections):
        raise ObjectError(f"{name} has no section names")
    names = _read_at(file, sections[names_index][4], sections[names_index][5], name)
    for section in sections:
        if names[section[0] :].startswith(b".BTF\0"):
            return _read_at(file, section[4], section[5], name)
    raise ObjectError(f"{name} holds no types: it has no .BTF section")


def _read_at(file: BinaryIO, offset: int, size: int, name: str) -> bytes:
    if size > MAX_BTF_SIZE or offset > 1 << 62:
        raise ObjectError(f"{name} claims a section of {size} bytes at {offset}")
    file.seek(offset)
    data = file.read(size)
    if len(data) != size:
        raise ObjectError(f"{name} is truncated")
    return data
