"""Which sources go to BCC, and the parts of the object writer that need no BCC."""

from pathlib import Path

import pytest

from netbpf.bpf.btf.types import Btf, Kind
from netbpf.bpf.elf import SHT_NOBITS, STB_LOCAL, Elf
from netbpf.compiler.bcc_object import BccModule, BccTable, write_object
from netbpf.compiler.depfile import dependencies
from netbpf.compiler.dialect import inner_maps, is_bcc, pinned_table
from netbpf.compiler.elf_writer import CODE, ElfWriter
from netbpf.errors import CompileError

ROOT = Path(__file__).parents[2]
PROGRAM = "int prog(struct xdp_md *ctx) { return XDP_PASS; }\n"
PLAIN = '#include <linux/bpf.h>\n#include <bpf/bpf_helpers.h>\nSEC("xdp") ' + PROGRAM


@pytest.mark.parametrize(
    "declaration",
    [
        "BPF_HASH(flows);", "BPF_HASH(flows, u32, struct val, 1024);", "BPF_ARRAY(a, u64, 4);",
        "BPF_TABLE(\"hash\", u32, u64, t, 9);",
        "BPF_PERCPU_ARRAY(a, long, 256);", "BPF_PERCPU_HASH(a);", "BPF_PROG_ARRAY(jmp, 8);", "BPF_PERF_OUTPUT(events);",
        "BPF_RINGBUF_OUTPUT(ring, 8);", "BPF_HISTOGRAM(dist);", "BPF_DEVMAP(devs, 4);", "BPF_CPUMAP(cpus, 4);",
        "BPF_XSKMAP(socks, 4);", "BPF_LPM_TRIE(trie, struct key);", "BPF_QUEUE(q, u64, 4);",
        "BPF_F_TABLE(\"lpm_trie\", u32, u32, t, 1, 1);",
        "BPF_HASH_OF_MAPS(outer, \"inner\", 4);", "BPF_STACK_TRACE(stacks, 64);",
        "  \t BPF_HASH  (flows);",
        "struct v { int a; }; BPF_HASH(flows, u32, struct v);", "/* flows */ BPF_HASH(flows);",
        "#include <uapi/linux/bpf.h>",
        "BPF_HASH(\n    flows,\n    u32);",
    ],
)  # fmt: skip
def test_sources_for_bcc(declaration: str) -> None:
    assert is_bcc(declaration + "\n" + PROGRAM)


@pytest.mark.parametrize(
    "text",
    [
        "", PROGRAM, PLAIN,
        "// BPF_HASH(flows);\n" + PROGRAM,
        "// continued \\\nBPF_HASH(flows);\n" + PROGRAM,
        "/* BPF_HASH(flows);\n   BPF_ARRAY(a); */\n" + PROGRAM,
        "/* never closed\nBPF_HASH(flows);\n" + PROGRAM,
        'const char *text = "\\nBPF_HASH(flows);";\n' + PROGRAM,
        'const char *text = "/*"; /* BPF_HASH(flows); */\n' + PROGRAM,
        "#define BPF_HASH(name) struct name##_map name\nBPF_HASH(flows);\n" + PROGRAM,
        "#define MAPS \\\nBPF_HASH(flows);\n" + PROGRAM,
        PLAIN + "BPF_HASH(flows);\n",  # its own macro, from a header of its own
        'BPF_HASH(flows);\nSEC("xdp") ' + PROGRAM,
        "int x = BPF_HASH(flows);\n" + PROGRAM,
        "MY_BPF_HASH(flows);\n" + PROGRAM,
        "BPF_HASH_SIZE(flows);\n" + PROGRAM,
        '#include "vmlinux.h"\nBPF_HASH(flows);\n' + PROGRAM,
        '#include <uapi/linux/bpf.h>\n#include "bpf_helpers.h"\n' + PROGRAM,
    ],
)  # fmt: skip
def test_sources_for_clang(text: str) -> None:
    assert not is_bcc(text)


def test_netbpfs_own_programs_are_no_bcc() -> None:
    sources = [*ROOT.glob("xdp/*.c"), *ROOT.glob("tc/*.c")]
    assert sources
    assert not [source for source in sources if is_bcc(source.read_text())]


def test_what_only_the_source_tells() -> None:
    text = """
        // BPF_ARRAY_OF_MAPS(commented, "no", 1);
        BPF_ARRAY_OF_MAPS(outer, "inner", 10);
        BPF_HASH_OF_MAPS(keyed, struct { u32 a; }, "other", 10);
        BPF_HASH_OF_MAPS(short, "inner");
    """
    assert inner_maps(text) == {"outer": "inner", "keyed": "other", "short": "inner"}
    assert (
        pinned_table('BPF_TABLE_PINNED("hash", u32, u64, t, 9, "/sys/fs/bpf/t");')
        == "BPF_TABLE_PINNED"
    )
    assert pinned_table("/* BPF_TABLE_PINNED(no) */ BPF_HASH(t);") is None


# ------------------------------------------------------------------------------------------ dependencies


def test_the_names_in_a_make_rule(tmp_path: Path) -> None:
    names = ["a.h", "with space.h", "hash#.h", "dollar$.h", "back\\slash.h"]
    for name in names:
        (tmp_path / name).write_text("")
    rule = tmp_path / "rules.d"
    rule.write_text(
        "prog.o: a.h with\\ space.h \\\n  hash\\#.h dollar$$.h back\\slash.h /virtual/include/bcc/helpers.h a.h\n"
    )
    assert dependencies(rule, str(tmp_path)) == tuple(str(tmp_path / name) for name in names)


@pytest.mark.parametrize("rule", ["", "prog.o", "prog.o: new\nline.h", "prog.o: missing.h\n"])
def test_a_rule_that_cannot_be_followed(tmp_path: Path, rule: str) -> None:
    (tmp_path / "rules.d").write_text(rule)
    assert dependencies(tmp_path / "rules.d", str(tmp_path)) is None


# ------------------------------------------------------------------------------------------------ writers


def test_an_object_reads_back_as_it_was_written() -> None:
    writer = ElfWriter()
    text = writer.section("xdp", bytes(16), CODE)
    bss = writer.section(".bss", b"", 3, type=SHT_NOBITS, size=24)
    local = writer.symbol("", text, type=3, binding=STB_LOCAL)
    name = writer.symbol("counter", bss, 8, 16, type=1)
    writer.relocate(text, 0, 1, name)
    writer.relocate(text, 8, 10, local)
    elf = Elf(writer.build())
    assert [(section.name, section.size) for section in elf.sections[1:3]] == [
        ("xdp", 16),
        (".bss", 24),
    ]
    assert [
        (one.offset, one.type, one.symbol.name) for one in elf.relocations(elf.sections[text])
    ] == [
        (0, 1, "counter"),
        (8, 10, ""),
    ]
    counter = elf.symbols[name]
    assert (counter.name, counter.section, counter.value, counter.size) == ("counter", bss, 8, 16)
    assert (
        next(section for section in elf.sections if section.name == ".symtab").info == 2
    )  # the first global


def test_a_local_symbol_after_a_global_one_is_a_mistake() -> None:
    writer = ElfWriter()
    writer.symbol("prog", 1)
    with pytest.raises(ValueError, match="comes after a global one"):
        writer.symbol("static", 1, binding=STB_LOCAL)


def module(code: bytes, *tables: BccTable) -> BccModule:
    return BccModule("prog.c", {"prog": code}, tables, "GPL", None, {}, 2)


EXIT = bytes.fromhex("b700000002000000 9500000000000000")


def test_without_btf_programs_and_maps_are_there_untyped() -> None:
    load = bytes.fromhex("1811000007000000 0000000000000000")
    table = BccTable("flows", 7, 1, 4, 8, 100, 0, 0, 0)
    elf = Elf(write_object(module(load + EXIT, table)))
    section = elf.section("bcc/prog")
    assert section is not None
    assert [(one.offset, one.symbol.name) for one in elf.relocations(section)] == [(0, "flows")]
    assert elf.content(section)[:16] == bytes.fromhex(
        "1801000000000000 0000000000000000"
    )  # no fd is left
    btf = elf.section(".BTF")
    assert btf is not None
    assert [one.name for one in Btf(elf.content(btf)).types() if one.kind is Kind.VAR] == ["flows"]


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("1801000000000000 0000000000000000", "uses a global variable or a constant table"),
        ("1801000008000000 0000000000000000", "uses a global variable or a constant table"),
        ("18010000f8ffffff 00000000ffffffff", "uses a global variable or a constant table"),
        ("1811000009000000 0000000000000000", "uses a table that belongs to another module"),
        ("85100000ffffffff", "calls a function that is not inlined"),
    ],
)
def test_code_that_bcc_left_unfinished_is_refused(code: str, message: str) -> None:
    with pytest.raises(CompileError, match=rf"prog\.c: function prog {message}"):
        write_object(module(bytes.fromhex(code) + EXIT))


def test_numbers_that_need_64_bits_are_no_addresses() -> None:
    for number in ("18010000ffffffff 0000000000000000", "1801000000000000 0000000001000000"):
        code = bytes.fromhex(number) + EXIT
        elf = Elf(write_object(module(code)))
        section = elf.section("bcc/prog")
        assert section is not None
        assert elf.content(section) == code
