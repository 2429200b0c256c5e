"""``netbpf inspect`` beside the linker, the loader, readelf and what the sources say."""

import json
import random
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from netbpf.bpf.linker import link
from netbpf.bpf.object import ObjectSpec
from netbpf.errors import NetbpfError, ObjectError
from netbpf.insight.headers import headers
from netbpf.insight.listing import listings
from netbpf.insight.model import ObjectProgram
from netbpf.insight.objects import report
from tests.cli.lab import run_cli
from tests.support import elf as raw
from tests.support.compiling import CLANGS, OBJECTS, compile_c, compile_object
from tests.support.descriptors import nothing_left_open
from tests.support.mutation import damaged, truncations

NAMES = sorted(path.name.removesuffix(".bpf.c") for path in OBJECTS.glob("*.bpf.c"))
HEAD = """
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
"""
WANTS = (
    HEAD
    + """
#define about(text) __attribute__((btf_decl_tag(text)))
int counter about("Packets so far") = 5;
const volatile char name[8] = "eth0";
static __u64 hidden;
extern int netbpf_is_nowhere(void) __ksym __weak;
struct task_struct { int pid; int netbpf_has_no_such_field; } __attribute__((preserve_access_index));
SEC("xdp.frags") int wants(struct xdp_md *ctx)
{
	struct task_struct *task = (void *)bpf_get_current_task();
	int value = 0;

	if (netbpf_is_nowhere)
		netbpf_is_nowhere();
	bpf_probe_read_kernel(&value, 4, &task->pid);
	bpf_probe_read_kernel(&value, 4, &task->netbpf_has_no_such_field);
	hidden += __sync_fetch_and_add(&counter, name[value & 7]);
	return bpf_skb_store_bytes((void *)ctx, 0, &value, 4, 0) ? XDP_PASS : hidden & 1;
}
char _license[] SEC("license") = "GPL";
"""
)


def made(tmp_path: Path, data: bytes, name: str = "made.o") -> Path:
    path = tmp_path / name
    path.write_bytes(data)
    return path


def program(data: bytes, name: str) -> ObjectProgram:
    return next(one for one in report(ObjectSpec(data)).programs if one.name == name)


# --- what it says ---


@pytest.mark.parametrize("clang", CLANGS)
@pytest.mark.parametrize("name", NAMES)
def test_programs_are_what_the_linker_makes_of_them(name: str, clang: str) -> None:
    spec = ObjectSpec(compile_object(name, clang=clang))
    with nothing_left_open():
        found = report(spec)
    assert [one.name for one in found.programs] == [one.name for one in spec.programs]
    for one, source in zip(found.programs, spec.programs, strict=True):
        image = link(spec, source.function)
        assert one.total_insns == len(image.insns) // 8
        assert [sub.name for sub in one.subprograms] == [
            placed.function.name for placed in image.functions[1:]
        ]
        assert set(one.maps) == set(image.map_names)
        assert {need.name for need in one.kernel_functions} <= {ref.name for ref in image.externs}
        assert one.relocations == len(image.relocations)
        assert not one.problem


def test_what_this_kernel_lacks_is_said() -> None:
    found = report(ObjectSpec(compile_c(WANTS)))
    [one] = found.programs
    helpers = {need.name: need for need in one.helpers}
    assert helpers["bpf_get_current_task"].here is True
    assert helpers["bpf_skb_store_bytes"].here is False
    assert "xdp programs may not call it" in helpers["bpf_skb_store_bytes"].why
    [function] = one.kernel_functions
    assert (function.name, function.here, function.optional) == ("netbpf_is_nowhere", False, True)
    features = {need.name: need.here for need in one.features}
    assert features["xdp.frags"]
    assert features["global variables"]
    assert features["xdp programs"]
    assert features["atomic operations with a result (cpu v3)"]
    fields = {re.sub(r" \(.*", "", each.text): each for each in found.relocations}
    assert fields["struct task_struct.pid"].found
    assert fields["struct task_struct.pid"].new
    lost = fields["struct task_struct.netbpf_has_no_such_field"]
    assert lost.found is None
    assert lost.new is None
    assert lost.why


def test_a_license_that_forbids_helpers() -> None:
    source = (
        HEAD
        + """
    SEC("xdp") int p(void *ctx) { bpf_trace_printk("x", 2); return 2; }
    char _license[] SEC("license") = "Proprietary";
    """
    )
    found = report(ObjectSpec(compile_c(source)))
    assert not found.gpl
    [helper] = found.programs[0].helpers
    assert helper.here is False
    assert "under the GPL" in helper.why


def test_variables_with_defaults_and_descriptions() -> None:
    found = {one.name: one for one in report(ObjectSpec(compile_c(WANTS))).variables}
    assert (found["counter"].type, found["counter"].default) == ("s32", 5)
    assert found["counter"].description == "Packets so far"
    assert found["counter"].writable
    assert not found["counter"].static
    assert (found["name"].default, found["name"].writable) == ("eth0", False)
    assert (found["hidden"].section, found["hidden"].default, found["hidden"].static) == (".bss", 0, True)  # fmt: skip


def test_variables_without_types_are_bytes() -> None:
    found = report(ObjectSpec(compile_object("globals", debug=False)))
    assert found.btf is None
    assert found.variables
    assert all(one.type == "" and one.size for one in found.variables)


def test_maps_as_the_source_has_them() -> None:
    found = {one.name: one for one in report(ObjectSpec(compile_object("maps"))).maps}
    assert all(one.here for one in found.values())
    trie = found["trie"]
    assert (trie.type, trie.flags) == ("lpm_trie", ("no_prealloc",))
    assert found["ring"].type == "ringbuf"
    assert found["ring"].max_entries


def test_cpu_v4_is_noticed() -> None:
    source = HEAD + 'SEC("xdp") int p(struct xdp_md *c) { return (signed char)c->ingress_ifindex; }'
    needs = program(compile_c(source, clang=CLANGS[-1], cpu="v4"), "p").features
    assert any("cpu v4" in need.name and need.here for need in needs)
    needs = program(compile_c(source, clang=CLANGS[-1], cpu="v3"), "p").features
    assert not any("cpu v4" in need.name for need in needs)


# --- code ---


@pytest.mark.parametrize("name", ["subprograms", "callbacks", "maps", "globals", "assembly"])
def test_every_instruction_that_llvm_shows(name: str, tmp_path: Path) -> None:
    path = made(tmp_path, compile_object(name))
    spec = ObjectSpec.open(path)
    tool = CLANGS[0].replace("clang", "llvm-objdump")
    shown = subprocess.run([tool, "-d", path], capture_output=True, text=True, check=True).stdout
    theirs: dict[str, list[str]] = {}
    names: list[str] = []
    for line in shown.splitlines():
        if head := re.fullmatch(r"[0-9a-f]+ <(.*)>:", line):
            # LLVM names the blocks of a function too.
            names += [] if head[1].startswith("LBB") else [head[1]]
        elif code := re.match(r"\s+\d+:\s((?:[0-9a-f]{2}[ \t]){8,16})", line):
            theirs.setdefault(names[-1], []).append(code[1].strip())
    ours = {
        one.name: [line.opcodes for line in one.lines]
        for one in listings(spec)
    }  # fmt: skip
    joined = {name: " ".join(codes) for name, codes in theirs.items()}
    assert {name: " ".join(codes) for name, codes in ours.items()} == {
        name: joined[name] for name in ours
    }


def test_code_names_what_it_refers_to() -> None:
    found = {one.name: one for one in listings(ObjectSpec(compile_c(WANTS)))}
    text = "\n".join(line.text for line in found["wants"].lines)
    assert "call bpf_get_current_task#35" in text
    assert "call netbpf_is_nowhere" in text
    assert "= map[.data][0]+0" in text
    assert found["wants"].prototype == "int wants(struct xdp_md *ctx)"
    sources = [line.source for line in found["wants"].lines if line.source]
    assert any("bpf_get_current_task()" in one.text and one.line for one in sources)


def test_only_some_functions() -> None:
    spec = ObjectSpec(compile_object("subprograms"))
    assert [one.name for one in listings(spec, ["leaf"])] == ["leaf"]
    assert len(listings(spec, ["xdp"])) > 1
    with pytest.raises(ObjectError, match="no function 'lef'") as error:
        listings(spec, ["lef"])
    assert "leaf" in (error.value.hint or "")


# --- headers ---


@pytest.mark.parametrize("name", ["maps", "subprograms"])
def test_headers_are_those_of_readelf(name: str, tmp_path: Path) -> None:
    path = made(tmp_path, compile_object(name))
    found = headers(ObjectSpec.open(path).elf)
    shown = subprocess.run(
        ["readelf", "-SW", "-sW", "-h", path], capture_output=True, text=True, check=True
    ).stdout
    rows = re.findall(
        r"^\s+\[\s*(\d+)\] (\S*)\s+(\S+)\s+[0-9a-f]{16} (\S+) (\S+) (\S+)\s+([A-Z]*)\s+(\d+)\s+(\d+)\s+(\d+)$",
        shown, re.MULTILINE,
    )  # fmt: skip
    assert len(rows) == len(found.sections) > 5
    for row, one in zip(rows, found.sections, strict=True):
        # readelf leaves the type LLVM_ADDRSIG as a number, and section 0 has no name.
        if one.number and one.type != "LLVM_ADDRSIG":
            assert (row[1], row[2]) == (one.name, one.type)
        numbers = (one.offset, one.size, one.entry_size)
        assert tuple(int(part, 16) for part in row[3:6]) == numbers
        assert (row[6], *map(int, row[7:])) == (one.flags, one.link, one.info, one.align)
    symbols = re.findall(
        r"^\s+(\d+): ([0-9a-f]{16})\s+(\S+) (\S+)\s+(\S+)\s+(\S+)\s+(\S+) ?(.*)$",
        shown,
        re.MULTILINE,
    )
    assert len(symbols) == len(found.symbols)
    for row, symbol in zip(symbols, found.symbols, strict=True):
        assert (int(row[1], 16), int(row[2], 0)) == (symbol.value, symbol.size)
        assert row[3:6] == (symbol.type, symbol.binding, symbol.visibility)
        if symbol.type != "SECTION":
            assert row[7].strip() == symbol.name
    assert dict(found.fields)["Number of section headers"] == str(len(rows))


# --- the command ---


def test_the_command(tmp_path: Path) -> None:
    path = made(tmp_path, compile_c(WANTS))
    done = run_cli("inspect", path)
    assert done.code == 0
    assert "program wants" in done.out
    assert "section       xdp.frags (xdp)" in done.out
    assert "counter" in done.out
    assert "Packets so far" in done.out
    assert "this kernel lacks: bpf_skb_store_bytes" in done.out
    found = run_cli("inspect", path, "--json").json
    assert found["schema"] == "netbpf.inspect/1"
    assert found["programs"][0]["name"] == "wants"


def test_source_and_opcodes(tmp_path: Path) -> None:
    path = made(tmp_path, compile_object("subprograms"))
    done = run_cli("inspect", path, "--source", "-n", "leaf", "--opcodes")
    assert "(95) exit" in done.out
    assert "95 00 00 00 00 00 00 00" in done.out
    [function] = run_cli("inspect", path, "-S", "-n", "leaf", "--json").json["functions"]
    assert function["insns"][-1]["disasm"] == "(95) exit"
    assert function["insns"][-1]["opcodes"]["code"] == "0x95"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("-n", "x"), "-n is for --source"),
        (("--opcodes",), "--opcodes is for --source"),
        (("--source", "--headers"), "two questions"),
    ],
    ids=["name", "opcodes", "both"],
)
def test_options_that_make_no_sense(arguments: tuple[str, ...], words: str) -> None:
    done = run_cli("inspect", "builtin:xdp_count", *arguments)
    assert done.code == 2
    assert words in done.error


def test_a_source_is_compiled(tmp_path: Path) -> None:
    (tmp_path / "prog.bpf.c").write_text(WANTS)
    assert run_cli("inspect", tmp_path / "prog.bpf.c", "--json").json["programs"][0]["name"] == "wants"  # fmt: skip


# --- when things go wrong ---


def test_names_with_escape_sequences_are_shown_escaped(tmp_path: Path) -> None:
    data = raw.program(section="xdp\x1b[31m").replace(b"\0main\0", b"\0m\x1b]2\0")
    path = made(tmp_path, data, "a\x1b[2J.o")
    for options in ((), ("--source",), ("--headers",)):
        done = run_cli("inspect", path, *options)
        assert done.code == 0
        assert "\x1b" not in done.out
        assert "\\x1b" in done.out


def test_an_object_of_a_gibibyte(tmp_path: Path) -> None:
    path = tmp_path / "large.o"
    with path.open("wb") as file:
        file.truncate(1 << 30)  # without a byte on the disk
    done = run_cli("inspect", path)
    assert done.code == 3
    assert "has 1073741824 bytes" in done.error


def test_damaged_objects_are_refused_or_told() -> None:
    seeded = random.Random(61)
    objects = [compile_object(name) for name in ("maps", "subprograms", "externs", "core_types")]
    wrong = list(truncations(objects[0]))
    wrong += [damaged(seeded.choice(objects), seeded) for _ in range(400)]
    told = 0
    with nothing_left_open():
        for data in wrong:
            try:
                spec = ObjectSpec(data)
                headers(spec.elf)
                listings(spec)
                json.dumps(str(report(spec)))
                told += 1
            except NetbpfError:
                pass
    assert 100 < told < len(wrong)


def test_code_that_refers_to_nothing_is_a_problem_of_its_program() -> None:
    nowhere = raw.insn(0x85, 0, 1, 0, 100) + raw.MOV + raw.EXIT
    [one] = report(ObjectSpec(raw.program(nowhere))).programs
    assert "calls into nowhere" in one.problem


def test_without_permission_nothing_is_asked(tmp_path: Path) -> None:
    path = made(tmp_path, compile_object("maps"))
    path.chmod(0o644)
    for directory in (path.parent, *path.parent.parents):
        if directory.stat().st_uid == 0 and not directory.stat().st_mode & 1:
            directory.chmod(directory.stat().st_mode | 0o11)
    code = (
        f"import os, sys\nos.setgroups([]); os.setgid(65534); os.setuid(65534)\n"
        f"sys.argv = ['netbpf', 'inspect', {str(path)!r}, '--json']\n"
        "from netbpf.cli.main import main\nmain()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    assert {need["here"] for one in found["programs"] for need in one["helpers"]} <= {None}
