"""``btf list`` and ``btf dump`` beside bpftool, and what is said where there is nothing to dump."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import netbpf
from netbpf.bpf.btf.kernel import VMLINUX
from netbpf.bpf.loader import Loaded, load
from netbpf.bpf.object import ObjectSpec
from netbpf.constants import Hook
from tests.cli.lab import ROOT, run_cli
from tests.support.compiling import CLANGS, compile_c, compile_object
from tests.support.descriptors import nothing_left_open

SOURCE = """
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
struct netbpf_key { __u32 a:3, b:29; };
struct netbpf_value { __u64 x; struct netbpf_key *p; };
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 4);
	__type(key, struct netbpf_key);
	__type(value, struct netbpf_value);
} netbpf_typed SEC(".maps");
SEC("xdp") int netbpf_types(struct xdp_md *ctx)
{
	struct netbpf_key key = {};

	return bpf_map_lookup_elem(&netbpf_typed, &key) ? XDP_PASS : XDP_DROP;
}
char _license[] SEC("license") = "GPL";
"""


@pytest.fixture
def loaded(private: Path) -> Iterator[Loaded]:
    spec = ObjectSpec(compile_c(SOURCE, name="types"))
    with load(spec, spec.programs[0], Hook.XDP) as made:
        yield made


def bpftool(*words: object) -> str:
    done = subprocess.run(["bpftool", *map(str, words)], capture_output=True, text=True, check=True)
    return done.stdout


def same_fields(ours: list[dict[str, Any]], theirs: list[dict[str, Any]]) -> None:
    """Field for field; this bpftool writes unsigned constants above 2^31 with the sign extended."""
    assert len(ours) == len(theirs)
    for one, other in zip(ours, theirs, strict=True):
        for value in other.get("values", ()):
            if other["kind"] == "ENUM" and other["encoding"] == "UNSIGNED":
                value["val"] &= 0xFFFFFFFF
        if other["kind"] == "DATASEC":  # ours have names too
            one["vars"] = [
                {name: value for name, value in each.items() if name not in ("kind", "name")}
                for each in one["vars"]
            ]
        assert one == other


def test_the_kernel_as_bpftool_has_it() -> None:
    assert run_cli("btf", "dump", "vmlinux").out == bpftool("btf", "dump", "file", VMLINUX)


@pytest.mark.parametrize("name", ["maps", "globals", "subprograms", "externs"])
def test_objects_as_bpftool_has_them(name: str, tmp_path: Path) -> None:
    path = tmp_path / "it.o"
    path.write_bytes(compile_object(name, clang=CLANGS[-1]))
    assert run_cli("btf", "dump", path).out == bpftool("btf", "dump", "file", path)
    ours = run_cli("btf", "dump", "file", path, "--json").json["types"]
    same_fields(ours, json.loads(bpftool("-j", "btf", "dump", "file", path))["types"])


def test_what_runs_as_bpftool_has_it(loaded: Loaded) -> None:
    number = loaded.program.info.id
    theirs = bpftool("btf", "dump", "prog", "id", number)
    assert run_cli("btf", "dump", "prog", number).out == theirs
    assert run_cli("btf", "dump", "id", loaded.program.info.btf_id).out == theirs
    [table] = [one for name, one in loaded.maps.items() if name == "netbpf_typed"]
    assert run_cli("btf", "dump", "map", table.info.id, "all").out == theirs
    listed = {one["id"]: one for one in json.loads(bpftool("-j", "btf", "list"))}
    mine = listed[loaded.program.info.btf_id]
    [ours] = run_cli("btf", "list", mine["id"], "--json").json["btfs"]
    assert {name: value for name, value in mine.items() if name != "pids"}.items() <= ours.items()


def test_key_and_value_of_a_map(loaded: Loaded) -> None:
    table = loaded.maps["netbpf_typed"].info.id
    both = run_cli("btf", "dump", "map", table, "--c").out
    assert "struct netbpf_key {\n\t__u32 a: 3;\n\t__u32 b: 29;\n};" in both
    assert "struct netbpf_value {" in both
    assert "preserve_access_index" not in both
    key = run_cli("btf", "dump", "map", table, "key", "--c").out
    assert "netbpf_key" in key
    assert "netbpf_value" not in key
    shown = run_cli("btf", "dump", "map", table, "value", "--json").json["types"]
    assert {"netbpf_value", "netbpf_key", "__u64"} <= {one["name"] for one in shown}


def test_only_some_types() -> None:
    done = run_cli("btf", "dump", "vmlinux", "--c", "-t", "struct ethhdr", "-t", "callback_head")
    assert "struct ethhdr {\n\tunsigned char h_dest[6];" in done.out
    assert "struct callback_head {" in done.out
    assert "preserve_access_index" in done.out
    assert done.out.count("\n") < 60
    near = run_cli("btf", "dump", "vmlinux", "-t", "struct ethhd")
    assert near.code == 3
    assert "did you mean ethhdr" in near.error


def test_types_that_continue_those_of_another_file(tmp_path: Path) -> None:
    """A split BTF, as of a module: ids and strings go on where those of the base end."""
    base = tmp_path / "base"
    from netbpf.bpf.btf.build import Builder

    builder = Builder()
    number = builder.integer("int", 4, signed=True)
    base.write_bytes(builder.to_bytes())
    strings = len(builder.build().strings)
    head = [0, 4 << 24 | 1, 4]  # the name comes below
    types = b"".join(
        word.to_bytes(4, "little") for word in (strings + 1, *head[1:], strings + 7, number, 0)
    )
    names = b"\0outer\0inner\0"
    header = b"".join(
        word.to_bytes(4, "little") for word in (24, 0, len(types), len(types), len(names))
    )
    (tmp_path / "split").write_bytes(b"\x9f\xeb\x01\x00" + header + types + names)
    done = run_cli("btf", "dump", "file", tmp_path / "split", "--base", base)
    assert done.lines == ["[2] STRUCT 'outer' size=4 vlen=1", "\t'inner' type_id=1 bits_offset=0"]
    assert done.out == bpftool("-B", base, "btf", "dump", "file", tmp_path / "split")
    assert (
        "\tint inner;" in run_cli("btf", "dump", "file", tmp_path / "split", "-B", base, "--c").out
    )


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (("vmlinu",), 2, "did you mean vmlinux?"),
        (("module", "nosuch"), 3, "no module nosuch"),
        (("id", "4294967290"), 8, "BTF 4294967290 does not exist"),
        (("id", "x"), 2, "'x' is no id"),
        (("prog", "4294967290"), 8, "does not exist"),
        (("/etc/hostname",), 3, "is neither an ELF file nor BTF"),
        (("/nowhere/x.o",), 3, "cannot open /nowhere/x.o"),
        (("file", "/"), 3, "is a directory"),
        (("a", "b"), 2, "first comes whose types are meant"),
        (("vmlinux", "--c", "--json"), 2, "--json has no form for it"),
    ],
)
def test_what_is_not_there(words: tuple[str, ...], code: int, message: str) -> None:
    with nothing_left_open():
        done = run_cli("btf", "dump", *words)
    assert done.code == code
    assert message in done.error


def test_what_has_no_types(tmp_path: Path) -> None:
    path = tmp_path / "bare.o"
    path.write_bytes(compile_object("subprograms", debug=False))
    assert "has no BTF" in run_cli("btf", "dump", path).error
    spec = ObjectSpec(path.read_bytes())
    with load(spec, spec.programs[0], None) as made:
        assert "has no BTF" in run_cli("btf", "dump", "prog", made.program.info.id).error


def test_an_object_of_a_gigabyte(tmp_path: Path) -> None:
    """What lies behind the types is not read."""
    path = tmp_path / "large.o"
    path.write_bytes(compile_object("maps"))
    before = run_cli("btf", "dump", path).out
    os.truncate(path, 1 << 30)
    assert run_cli("btf", "dump", path).out == before
    os.truncate(path, 100)
    assert "truncated" in run_cli("btf", "dump", path).error


def test_names_are_shown_escaped(tmp_path: Path) -> None:
    from netbpf.bpf.btf.build import Builder

    builder = Builder()
    builder.integer("\x1b[31mint", 4)
    (tmp_path / "odd").write_bytes(builder.to_bytes())
    done = run_cli("btf", "dump", "file", tmp_path / "odd")
    assert "\x1b" not in done.out
    assert "'\\x1b[31mint'" in done.out


def test_a_reader_that_has_enough() -> None:
    for more in ("", " --json"):
        done = subprocess.run(
            ["bash", "-o", "pipefail", "-c", f"{sys.executable} -m netbpf btf dump vmlinux{more} | head -c 10"],
            capture_output=True, text=True, check=False, cwd=ROOT,
        )  # fmt: skip
        assert (done.returncode, done.stderr) == (141, "")


def test_without_permission() -> None:
    code = (
        "import os\nos.setgroups([]); os.setgid(65534); os.setuid(65534)\n"
        "from netbpf.cli.main import main\nmain(['btf', 'dump', 'id', '1'])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 10
    assert "CAP_SYS_ADMIN is missing" in done.stderr


def test_from_python(loaded: Loaded) -> None:
    with nothing_left_open():
        found = netbpf.types(("prog", str(loaded.program.info.id)), names=["netbpf_key"])
        assert "struct netbpf_key {" in "".join(found.header())
        assert loaded.program.info.btf_id in [one.id for one in netbpf.btfs()]
        assert netbpf.types("builtin:xdp_count").name == "xdp_count"
