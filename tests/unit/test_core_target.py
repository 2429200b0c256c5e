"""Kernel types from files: raw, in an ELF file, broken, or not types at all; and those of modules."""

import os
import struct
from pathlib import Path

import pytest

from netbpf.bpf.btf.build import Builder
from netbpf.bpf.core.target import kernel_file, kernel_modules, read_types
from netbpf.errors import ObjectError

NAMES = b"\0.shstrtab\0.BTF\0.other\0"


def types(long: int = 8) -> bytes:
    builder = Builder()
    builder.integer("long unsigned int", long)
    builder.struct("foo", 4, [])
    return builder.to_bytes()


def elf(content: bytes, name: bytes = b".BTF", count: int = 3) -> bytes:
    """An executable for x86-64 with one section, in bytes that only matter to a reader of sections."""
    start = 64 + len(NAMES)
    table = start + len(content)
    header = struct.pack(
        "<16sHHIQQQIHHHHHH", b"\x7fELF\2\1\1", 2, 62, 1, 0, 0, table, 0, 64, 0, 0, 64, count, 1
    )
    sections = bytes(64)
    sections += struct.pack("<IIQQQQIIQQ", 1, 3, 0, 0, 64, len(NAMES), 0, 0, 1, 0)
    at = NAMES.index(b"\0" + name + b"\0") + 1
    sections += struct.pack("<IIQQQQIIQQ", at, 1, 0, 0, start, len(content), 0, 0, 1, 0)
    return header + NAMES + content + sections


@pytest.mark.parametrize("content", [types(), elf(types())], ids=["raw", "elf"])
def test_types_of_a_file(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "vmlinux"
    path.write_bytes(content)
    ((btf, type_id),) = kernel_file(path).candidates("foo", read_types(path).type(2).kind)
    assert btf.type(type_id).name == "foo"
    assert btf.pointer_size == 8


def test_a_32_bit_kernel_has_short_pointers(tmp_path: Path) -> None:
    path = tmp_path / "vmlinux"
    path.write_bytes(types(long=4))
    assert read_types(path).pointer_size == 4


ELF = elf(types())
BAD = {
    "empty": (b"", "too short"),
    "text": (b"hello, world, this is no kernel", "magic"),
    "half": (types()[:-4], "truncated"),
    "elf without types": (elf(types(), b".other"), r"no \.BTF section"),
    "half an elf header": (ELF[:40], "no 64-bit little-endian ELF"),
    "32 bits": (ELF[:4] + b"\1" + ELF[5:], "no 64-bit little-endian ELF"),
    "big-endian": (ELF[:5] + b"\2" + ELF[6:], "no 64-bit little-endian ELF"),
    "no sections": (elf(types(), count=0), "no section names"),
    "table outside": (elf(types(), count=9), "truncated"),
    "far away": (ELF[:40] + b"\xff" * 8 + ELF[48:], "claims a section"),
    "entry size": (ELF[:58] + b"\0\0" + ELF[60:], "no section table"),
    "names outside": (ELF[:62] + b"\xff\0" + ELF[64:], "no section names"),
    "elf with half of its types": (elf(types()[:-4]), "truncated"),
}


@pytest.mark.parametrize(("content", "why"), BAD.values(), ids=BAD)
def test_files_that_are_no_types(content: bytes, why: str, tmp_path: Path) -> None:
    path = tmp_path / "vmlinux"
    path.write_bytes(content)
    with pytest.raises(ObjectError, match=why) as caught:
        read_types(path)
    assert "vmlinux" in caught.value.message


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    for path in (tmp_path / "missing", tmp_path, Path("nul\0byte"), fifo):
        with pytest.raises(ObjectError):
            read_types(path)


def test_modules_are_every_file_but_the_kernels(tmp_path: Path) -> None:
    for name in ("vmlinux", "xfs", "nf_tables"):
        (tmp_path / name).write_bytes(types())
    assert [one.name for one in kernel_modules(tmp_path)] == ["nf_tables", "xfs"]
    assert kernel_modules(tmp_path / "missing") == []
    (gone, _) = kernel_modules(tmp_path)
    (tmp_path / "nf_tables").unlink()
    assert gone.btf(read_types(tmp_path / "vmlinux"), "foo") is None
