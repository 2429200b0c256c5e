"""Files that are no BPF object, or a broken one: one ObjectError says what is wrong; nothing blocks or swells."""

import os
import re
import struct
import time
import tracemalloc
from pathlib import Path

import pytest

from netbpf.bpf.elf import MAX_OBJECT_SIZE, MAX_SYMBOLS, Elf, read_file
from netbpf.bpf.linker import MAX_FUNCTIONS, MAX_INSNS, link
from netbpf.bpf.object import ObjectSpec
from netbpf.errors import ExitCode, ObjectError
from tests.support.compiling import compile_c
from tests.support.descriptors import nothing_left_open
from tests.support.elf import (
    CODE,
    EXIT,
    FUNC,
    LOCAL_FUNC,
    MOV,
    NOBITS,
    PROGBITS,
    REL,
    STRTAB,
    SYMTAB,
    Part,
    btf,
    btf_type,
    elf,
    insn,
    program,
    relocation,
    symbol,
)  # fmt: skip

GOOD = program()


def patched(data: bytes, at: int, layout: str, *values: int) -> bytes:
    out = bytearray(data)
    struct.pack_into("<" + layout, out, at, *values)
    return bytes(out)


def read_and_link(data: bytes) -> None:
    spec = ObjectSpec(data, "dir/bad.o")
    for one in spec.programs:
        link(spec, one.function)


def refused(data: bytes) -> ObjectError:
    """The error for an object, from opening it or from linking one of its programs."""
    with pytest.raises(ObjectError) as caught:
        read_and_link(data)
    assert caught.value.exit_code is ExitCode.BAD_OBJECT
    assert caught.value.message.startswith("bad.o: ")
    assert "\n" not in caught.value.message
    return caught.value


def test_the_object_that_the_others_are_made_of_is_good() -> None:
    spec = ObjectSpec(GOOD)
    assert [one.name for one in spec.programs] == ["main"]
    assert link(spec, spec.programs[0].function).insns == MOV + EXIT


TABLE = struct.unpack_from("<Q", GOOD, 40)[0]

BAD = {
    "empty": (b"", "the file is empty"),
    "one byte": (b"\x7f", "not an ELF object"),
    "C source": (b"#include <linux/bpf.h>\n", "not an ELF object"),
    "bitcode": (b"BC\xc0\xde" + bytes(60), "LLVM bitcode"),
    "wrapped bitcode": (b"\xde\xc0\x17\x0b" + bytes(60), "LLVM bitcode"),
    "half a header": (GOOD[:40], "truncated inside the ELF header"),
    "x86-64": (patched(GOOD, 18, "H", 62), "compiled for x86-64, not for BPF"),
    "unknown machine": (patched(GOOD, 18, "H", 999), "compiled for machine 999"),
    "big-endian": (patched(GOOD, 5, "B", 2), "big-endian"),
    "32 bit": (patched(GOOD, 4, "B", 1), "32-bit ELF"),
    "linked": (patched(GOOD, 16, "H", 2), "not a relocatable object"),
    "no sections": (patched(GOOD, 60, "H", 0), "has no sections"),
    "section table outside": (patched(GOOD, 40, "Q", 1 << 63), "section table lies outside"),
    "odd section headers": (patched(GOOD, 58, "H", 40), "section table lies outside"),
    "no section names": (patched(GOOD, 62, "H", 99), "names a section for section names"),
    "section outside": (patched(GOOD, TABLE + 64 + 24, "Q", 1 << 40), "section xdp ends outside"),
    "section of 2^63 bytes": (patched(GOOD, TABLE + 64 + 32, "Q", 1 << 63), "section xdp ends outside"),
    "name outside": (patched(GOOD, TABLE + 64, "I", 1 << 30), "outside its string table"),
    "compressed": (patched(GOOD, TABLE + 64 + 8, "Q", 0x806), "section xdp is compressed"),
    "no symbol table": (elf(Part("xdp", MOV + EXIT, PROGBITS, CODE)), "has no symbol table"),
    "symbols cut off": (patched(GOOD, TABLE + 3 * 64 + 32, "Q", 47), "middle of an entry"),
    "2^32 symbols": (patched(GOOD, TABLE + 3 * 64 + 32, "Q", 24 << 32), ".symtab ends outside"),
    "symbol names nowhere": (patched(GOOD, TABLE + 3 * 64 + 40, "I", 77), "string table that does not exist"),
    "symbol in no section": (program(symbols=symbol(1, FUNC, 99)), "section 99, which does not exist"),
    "function outside": (program(symbols=symbol(1, FUNC, 1, 8, 16)), "ends outside its section xdp"),
    "function in between": (program(symbols=symbol(1, FUNC, 1, 4, 8)), "not whole instructions"),
    "empty function": (program(symbols=symbol(1, FUNC, 1, 16, 0)), "has no instructions"),
    "half an instruction": (program(MOV + EXIT + b"1234"), "not whole instructions"),
    "relocation of nothing": (
        program(MOV + EXIT, Part(".relxdp", relocation(0, 99), REL, link=3, info=1, entry_size=16)),
        "names symbol 99, which does not exist",
    ),
    "relocation outside": (
        program(MOV + EXIT, Part(".relxdp", relocation(16, 1), REL, link=3, info=1, entry_size=16)),
        "lies outside the section",
    ),
    "relocation of a move": (
        program(MOV + EXIT, Part(".relxdp", relocation(0, 1), REL, link=3, info=1, entry_size=16)),
        "in an instruction that cannot take one",
    ),
    "half a 64-bit load": (program(insn(0x18)), "cut off by the end of the function"),
    "a loader's descriptor": (program(insn(0x18, 1, 1, 0, 3) + insn(0) + EXIT), "names nothing (no relocation)"),
    "call into nowhere": (program(insn(0x85, 0, 1, 0, 77) + EXIT), "no function begins there"),
    "reserved section": (
        program(
            insn(0x18) + insn(0) + EXIT,
            Part(".relxdp", relocation(0, 2), REL, link=3, info=1, entry_size=16),
            symbols=symbol(1, 0x11, 0xFF05),
        ),
        "which lies in no section",
    ),
    "open licence": (program(MOV + EXIT, Part("license", b"GPL")), "license is not closed by a NUL"),
    "BTF magic": (program(MOV + EXIT, Part(".BTF", b"BTF!" + bytes(40))), "magic number"),
    "BTF big-endian": (program(MOV + EXIT, Part(".BTF", b"\xeb\x9f\x01" + bytes(40))), "big-endian"),
    "BTF of 10 bytes": (program(MOV + EXIT, Part(".BTF", bytes(10))), "too short for its header"),
    "BTF cut off": (program(MOV + EXIT, Part(".BTF", btf(btf_type(0, 2, 0, 1))[:-4])), "truncated"),
    "BTF type of an unknown kind": (program(MOV + EXIT, Part(".BTF", btf(btf_type(0, 31, 0, 1)))), "unknown kind 31"),
    "BTF of 17 MiB": (program(MOV + EXIT, Part(".BTF", bytes(17 << 20))), "the kernel takes 16777216"),
    "maps without BTF": (program(MOV + EXIT, Part(".maps", bytes(8))), "has no .BTF section"),
    "legacy maps without names": (program(MOV + EXIT, Part("maps", bytes(20))), "maps without names"),
    "a map definition of 8 bytes": (
        program(MOV + EXIT, Part("maps", bytes(8)), symbols=symbol(1, 0x11, 4, 0, 8)),
        "at least 16 are needed",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_bad_objects(name: str) -> None:
    data, words = BAD[name]
    assert words in refused(data).message


@pytest.mark.parametrize(("target", "words"), [("x86_64", "x86-64"), ("bpfeb", "big-endian")])
def test_objects_of_other_targets(target: str, words: str) -> None:
    data = compile_c("int main_program(void) { return 0; }", target=target)
    assert words in refused(data).message


# --- files ---


def test_files_that_are_none(tmp_path: Path) -> None:
    fifo, secret, big, link_away = (tmp_path / name for name in ("fifo", "secret", "big", "link"))
    os.mkfifo(fifo)
    link_away.symlink_to("nowhere")
    secret.write_bytes(GOOD)
    with open(big, "wb") as file:
        file.truncate(1 << 30)
    cases = {
        tmp_path: "is a directory",
        fifo: "is not a regular file",
        Path("/dev/zero"): "is not a regular file",
        Path("/dev/full"): "is not a regular file",
        tmp_path / "absent": "No such file",
        link_away: "No such file",
        secret / "below": "Not a directory",
        tmp_path / ("x" * 300): "too long",
        Path("a\0b"): "NUL byte",
        big: "has 1073741824 bytes; an object may have 67108864",
    }
    tracemalloc.start()
    try:
        with nothing_left_open():
            for path, words in cases.items():
                with pytest.raises(ObjectError, match=re.escape(words)):
                    read_file(path)
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()


def test_a_file_of_exactly_the_largest_size_is_read(tmp_path: Path) -> None:
    path = tmp_path / "largest.o"
    with open(path, "wb") as file:
        file.write(GOOD)
        file.truncate(MAX_OBJECT_SIZE)
    assert ObjectSpec.open(path).programs[0].name == "main"


def test_control_characters_of_names_do_not_reach_the_terminal() -> None:
    data = program(MOV + EXIT, symbols=symbol(6, FUNC, 1, 8, 16), names=b"\x1b[31m\n\0")
    assert r"\x1b[31m\n" in refused(data).message
    with pytest.raises(ObjectError) as caught:
        Elf(b"", "\x1b]0;x\x07.o")
    assert "\x1b" not in caught.value.message


# --- what a small file may claim ---


def many_bss(count: int, size: int) -> bytes:
    return program(
        MOV + EXIT, *(Part(f".bss.{n}", b"", NOBITS, 3, claims=size) for n in range(count))
    )


def deep_calls(depth: int) -> bytes:
    code = (insn(0x85, 0, 1, 0, 1) + EXIT) * depth + MOV + EXIT
    functions = b"".join(symbol(1, LOCAL_FUNC, 1, 16 * n, 16) for n in range(1, depth + 1))
    table = symbol(0, 0, 0) + symbol(1, FUNC, 1, 0, 16) + functions
    return elf(
        Part("xdp", code, PROGBITS, CODE),
        Part(".strtab", b"\0main\0", STRTAB),
        Part(".symtab", table, SYMTAB, link=2, entry_size=24),
    )


def overlapping_functions(count: int) -> bytes:
    code = insn(0x85, 0, 1, 0, 0) * count + MOV * 50_000 + EXIT
    functions = b"".join(
        symbol(1, LOCAL_FUNC, 1, 8 * n, len(code) - 8 * n) for n in range(1, count)
    )
    return program(code, symbols=functions)


_TYPES = btf_type(1, 8, 0, 1) * 100_000
CLAIMS = {
    "a .bss of 2^63 bytes": (many_bss(1, 1 << 63), "claims 9223372036854775808 bytes"),
    "10,000 .bss of 1 MiB": (many_bss(10_000, 1 << 20), "claims 1048576 bytes"),
    "too many symbols": (program(symbols=symbol(1, FUNC, 1, 0, 16) * MAX_SYMBOLS), f"may have {MAX_SYMBOLS}"),
    "names longer than the file": (
        program(symbols=symbol(6, FUNC, 1, 0, 16) * 50_000, names=b"a" * 4000 + b"\0"), "names are longer",
    ),
    "a name of 5000 bytes": (program(symbols=symbol(6, FUNC, 1, 0, 16), names=b"a" * 5000 + b"\0"), "more than 4096"),
    "more relocations than bytes": (
        program(MOV + EXIT, Part(".relxdp", relocation(0, 1) * 17, REL, link=3, info=1, entry_size=16)),
        "more relocations than bytes",
    ),
    "functions of functions": (deep_calls(MAX_FUNCTIONS), f"more than {MAX_FUNCTIONS} functions"),
    "functions over functions": (overlapping_functions(1000), f"more than {MAX_INSNS} instructions"),
    "a program of 2 million": (program(MOV * 2_000_000 + EXIT), f"more than {MAX_INSNS} instructions"),
}  # fmt: skip


@pytest.mark.parametrize("name", CLAIMS)
def test_claims_cost_neither_memory_nor_time(name: str) -> None:
    data, words = CLAIMS[name]
    tracemalloc.start()
    started = time.thread_time()
    try:
        assert words in refused(data).message
        assert tracemalloc.get_traced_memory()[1] < 32 << 20
    finally:
        tracemalloc.stop()
    assert time.thread_time() - started < 5


def test_sections_may_not_overlap() -> None:
    data = bytearray(elf(Part("a", bytes(4096)), Part("b", bytes(4096)), Part("c", bytes(4096))))
    (table,) = struct.unpack_from("<Q", data, 40)
    for number in (1, 2, 3):
        struct.pack_into("<QQ", data, table + number * 64 + 24, 64, 3 * 4096)
    assert "sections overlap" in refused(bytes(data)).message


def test_long_strings_of_btf_are_not_read_for_each_type() -> None:
    data = program(MOV + EXIT, Part(".BTF", btf(_TYPES, b"\0" + b"a" * (4 << 20) + b"\0")))
    started = time.thread_time()
    assert ObjectSpec(data).btf is not None
    assert time.thread_time() - started < 5


def test_calls_as_deep_as_they_like() -> None:
    """The kernel takes 256 functions; Python's own stack is of no account."""
    spec = ObjectSpec(deep_calls(3000))
    image = link(spec, spec.programs[0].function)
    assert len(image.functions) == 3001
    assert len(image.insns) == len(MOV + EXIT) * 3001


def test_a_hundred_thousand_instructions() -> None:
    spec_data = program(MOV * 99_999 + EXIT)
    started = time.thread_time()
    spec = ObjectSpec(spec_data)
    assert len(link(spec, spec.programs[0].function).insns) == 800_000
    assert time.thread_time() - started < 2
