"""``prog``, ``map`` and ``link`` beside bpftool: the same ids, fields and instructions."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from netbpf import api
from netbpf._sys import bpf as sys_bpf
from netbpf.bpf import insn as bpf
from netbpf.bpf.loader import Loaded, load
from netbpf.bpf.object import ObjectSpec
from netbpf.bpf.program import Program
from netbpf.constants import Hook, ProgType
from netbpf.errors import NotAttachedError, PermissionDeniedError
from netbpf.insight import choose
from netbpf.insight.cfg import blocks, edges
from netbpf.insight.choose import Wanted, parse
from tests.cli.lab import Lab, run_cli
from tests.support.compiling import compile_c, compile_object
from tests.support.descriptors import nothing_left_open

SOURCE = """
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
int netbpf_seen = 5;
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 4);
	__type(key, __u32);
	__type(value, __u64);
} netbpf_table SEC(".maps");
static __noinline int twice(int x) { return x * netbpf_seen; }
SEC("xdp") int netbpf_shown(struct xdp_md *ctx)
{
	__u32 key = ctx->ingress_ifindex;
	__u64 one = 1, *value = bpf_map_lookup_elem(&netbpf_table, &key);

	if (value)
		__sync_fetch_and_add(value, 1);
	else
		bpf_map_update_elem(&netbpf_table, &key, &one, 0);
	return twice(key) > 3 ? XDP_PASS : XDP_DROP;
}
char _license[] SEC("license") = "GPL";
"""


@pytest.fixture
def loaded(private: Path) -> Iterator[Loaded]:
    spec = ObjectSpec(compile_c(SOURCE, name="shown"))
    with load(spec, spec.programs[0], Hook.XDP) as made:
        yield made


@pytest.fixture
def pins(tmp_path: Path) -> Iterator[Path]:
    """A bpffs of the test's own."""
    path = tmp_path / "bpf"
    path.mkdir()
    subprocess.run(["mount", "-t", "bpf", "bpf", path], check=True)
    yield path
    subprocess.run(["umount", "-l", path], check=True)


def bpftool(*words: object) -> Any:
    done = subprocess.run(
        ["bpftool", "-j", *map(str, words)], capture_output=True, text=True, check=True
    )
    return json.loads(done.stdout)


def number(one: Loaded) -> int:
    return one.program.info.id


# --- programs ---


def test_a_program_has_the_fields_of_bpftool(loaded: Loaded) -> None:
    theirs = bpftool("prog", "show", "id", number(loaded))
    [ours] = run_cli("prog", "show", number(loaded), "--json").json["programs"]
    assert set(theirs) <= set(ours)
    assert abs(ours["loaded_at"] - theirs["loaded_at"]) <= 1
    for name in set(theirs) - {"loaded_at", "map_ids", "pids"}:
        assert ours[name] == theirs[name], name
    assert sorted(ours["map_ids"]) == sorted(theirs["map_ids"])


def test_the_list_has_every_program(loaded: Loaded) -> None:
    before = {(one["id"], one["tag"]) for one in bpftool("prog", "list")}
    ours = {(one["id"], one["tag"]) for one in run_cli("prog", "--json").json["programs"]}
    after = {(one["id"], one["tag"]) for one in bpftool("prog", "list")}
    assert (number(loaded), loaded.program.info.tag) in before & after <= ours


def test_by_id_name_tag_and_pin(loaded: Loaded, pins: Path) -> None:
    info = loaded.program.info
    sys_bpf.obj_pin(str(pins / "it"), loaded.program.fd.fileno())
    for words in (
        (info.id,), ("id", info.id), ("name", "netbpf_shown"), (info.tag,), ("tag", info.tag), (pins / "it",),
        ("pinned", pins / "it"),
    ):  # fmt: skip
        found = run_cli("prog", "show", *words, "--json").json["programs"]
        assert info.id in [one["id"] for one in found]
    [shown] = run_cli("prog", "show", pins / "it", "--json").json["programs"]
    assert shown["pinned"] == [str(pins / "it")]


def test_a_program_that_no_link_holds(loaded: Loaded, monkeypatch: pytest.MonkeyPatch) -> None:
    """It says so; the list, and one who may not look, say nothing of links."""
    [shown] = run_cli("prog", "show", number(loaded), "--json").json["programs"]
    assert shown["links"] == []
    assert "  link " not in run_cli("prog", "show", number(loaded)).out
    assert "links" not in run_cli("prog", "list", "--json").json["programs"][0]

    def refused() -> Iterator[int]:
        raise PermissionDeniedError("no")

    monkeypatch.setattr("netbpf.insight.kernel.link_ids", refused)
    [shown] = run_cli("prog", "show", number(loaded), "--json").json["programs"]
    assert "links" not in shown


def test_a_process_that_holds_it(loaded: Loaded) -> None:
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE, pass_fds=[loaded.program.fd.fileno()]) as cat:  # fmt: skip
        os.set_inheritable(loaded.program.fd.fileno(), False)
        [shown] = run_cli("prog", "show", number(loaded), "--json").json["programs"]
        text = run_cli("prog", "show", number(loaded)).out
        assert cat.stdin
        cat.stdin.close()
    assert {"pid": cat.pid, "comm": "cat"} in shown["pids"]
    assert re.search(rf"^ *held by  .*\bcat\({cat.pid}\)", text, re.MULTILINE), text


def test_the_interface_that_it_runs_on(lab: Lab) -> None:
    lab.attach("xdp", "dut0", lab.compiled(SOURCE, "shown"), "--link")
    [hook] = lab.hooks()
    which = str(hook["program"]["id"])
    done = lab.wire.dut.run(run_cli, "prog", "show", which, "--json")
    [one] = done.json["programs"]
    assert [(at["interface"], at["hook"]) for at in one["attached"]] == [("dut0", "xdp")]
    links = lab.wire.dut.run(run_cli, "link", "list", hook["link_id"], "--json").json["links"]
    assert (links[0]["type"], links[0]["devname"], links[0]["prog_id"]) == ("xdp", "dut0", int(which))  # fmt: skip
    for each in (*links, *one["links"]):
        each.pop("pids")  # whoever lists links holds each for a moment
    assert one["links"] == links
    [pin] = links[0]["pinned"]
    text = lab.wire.dut.run(run_cli, "prog", "show", which).lines
    shown = f"  link          {hook['link_id']} xdp dut0, pinned as {pin}"
    assert [line for line in text if line.startswith(shown)]
    maps = lab.wire.dut.run(run_cli, "map", "show", "name", "netbpf_table", "--json").json["maps"]
    assert any(int(which) in one["prog_ids"] and one["attached"] for one in maps)


# --- code ---


@pytest.mark.parametrize("name", ["subprograms", "callbacks", "maps", "globals", "tail_calls"])
def test_instructions_are_those_of_bpftool(name: str) -> None:
    spec = ObjectSpec(compile_object(name))
    for source in spec.programs[:3]:
        with load(spec, source, None) as made:
            found = run_cli("prog", "dump", number(made), "--opcodes", "--json").json["functions"]
            theirs = bpftool("prog", "dump", "xlated", "id", number(made), "opcodes")
        ours = [one for function in found for one in function["insns"]]
        # Of the addresses of per-CPU data (Linux 6.10) this bpftool does not know yet.
        texts = [re.sub(r"&\(void __percpu \*\)\((r\d)\)", r"\1", one["disasm"]) for one in ours]
        assert texts == [one["disasm"] for one in theirs]
        assert [one["opcodes"] for one in ours] == [one["opcodes"] for one in theirs]
        protos = [
            one["proto"].replace("* ", "*").replace("()", "(void)")
            for one in theirs
            if "proto" in one
        ]
        assert [function["proto"] for function in found] == protos


def test_code_without_types() -> None:
    code = bpf.Insn(0xB7).pack() + bpf.Insn(0x95).pack()
    fd, _, _ = sys_bpf.prog_load(sys_bpf.ProgLoad(ProgType.SOCKET_FILTER, code, "GPL"))
    assert fd
    with fd, Program(fd.duplicate()) as program:
        done = run_cli("prog", "dump", program.info.id)
    assert done.lines == ["program without a name:", "   0: (b7) r0 = 0", "   1: (95) exit"]


def test_source_lines_and_map_names(loaded: Loaded) -> None:
    done = run_cli("prog", "dump", number(loaded))
    assert "; __sync_fetch_and_add(value, 1);" in done.out
    assert re.search(r"\(18\) r1 = map\[id:\d+\] ; netbpf_table", done.out)
    assert "int twice(int x):" in done.out
    assert re.search(r"call pc\+\d+#bpf_prog_[0-9a-f]{16}_twice", done.out)


def test_machine_code(loaded: Loaded, monkeypatch: pytest.MonkeyPatch) -> None:
    size = loaded.program.info.jited_size
    [one, two] = run_cli("prog", "dump", number(loaded), "--jited", "--json").json["functions"]
    assert one["name"] == f"bpf_prog_{loaded.program.info.tag}_netbpf_shown"
    assert two["name"].endswith("_twice")
    whole = "".join(line["opcodes"] for each in (one, two) for line in each["insns"])
    assert len(bytes.fromhex(whole.replace(" ", ""))) == size
    assert any(line.get("src") for line in one["insns"])
    monkeypatch.setattr("netbpf.insight.jited.disassembler", lambda: None)
    plain = run_cli("prog", "dump", number(loaded), "--jited", "--json")
    assert "shown in hex" in plain.err
    hexed = "".join(line["opcodes"] for each in plain.json["functions"] for line in each["insns"])
    assert hexed.replace(" ", "") == whole.replace(" ", "")


def test_the_graph_has_every_way(loaded: Loaded) -> None:
    for function in api.program_code(number(loaded)):
        parts = blocks(function.lines)
        assert [one for part in parts for one in part] == list(function.lines)
        starts = {part[0].index for part in parts}
        for part, after in zip(parts, [*parts[1:], ()], strict=True):
            ways = list(edges(part, after[0].index if after else None))
            assert {target for target, _ in ways} <= starts
            ends = "exit" in part[-1].text
            assert len(ways) == (0 if ends else 2 if "if " in part[-1].text else 1)
    done = run_cli("prog", "dump", number(loaded), "--cfg")
    assert done.out.startswith("digraph ")
    assert done.out.count("subgraph") == 2
    assert done.out.count("{") == done.out.count("}")


@pytest.mark.parametrize(
    "words", [("--cfg", "{}"), ("--cfg", "id", "{}"), ("{}", "--cfg"), ("--cfg", "dot", "{}")]
)
def test_the_graph_whatever_comes_first(loaded: Loaded, words: tuple[str, ...]) -> None:
    """What follows --cfg and is no format of it is the program."""
    named = [one.format(number(loaded)) for one in words]
    assert run_cli("prog", "dump", *named).out.startswith("digraph ")


def test_drawing_without_graphviz(loaded: Loaded, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    done = run_cli("prog", "dump", number(loaded), "--cfg", "svg")
    assert done.code == 5
    assert "Graphviz" in done.error


# --- maps ---


def test_a_map_has_the_fields_of_bpftool(loaded: Loaded) -> None:
    for one in loaded.maps.values():
        theirs = bpftool("map", "show", "id", one.info.id)
        [ours] = run_cli("map", "show", one.info.id, "--json").json["maps"]
        assert {name: ours[name] for name in theirs if name != "pids"} == {
            name: value for name, value in theirs.items() if name != "pids"
        }
        assert ours["prog_ids"] == [number(loaded)]


def test_the_list_has_every_map_and_link(loaded: Loaded) -> None:
    for kind, name in (("map", "maps"), ("link", "links")):
        before = {one["id"] for one in bpftool(kind, "list")}
        ours = {one["id"] for one in run_cli(kind, "--json").json[name]}
        # Others load and unload meanwhile.
        assert before & {one["id"] for one in bpftool(kind, "list")} <= ours


# --- when things go wrong ---


def test_what_vanishes_while_being_listed_is_left_out(
    loaded: Loaded, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = number(loaded)
    real = Program.by_id

    def by_id(which: int) -> Any:
        if which == gone:
            raise NotAttachedError("gone")
        return real(which)

    monkeypatch.setattr(Program, "by_id", by_id)
    with nothing_left_open():
        assert gone not in [one.info.id for one in api.programs()]
    assert gone in [one["id"] for one in bpftool("prog", "list")]


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (("prog", "show", "4294967290"), 8, "program 4294967290 does not exist any more"),
        (("prog", "show", "99999999999"), 8, "does not exist"),
        (("prog", "dump", "netbpf_nowhere"), 8, "there is no program 'netbpf_nowhere'"),
        (("prog", "show", "0123456789abcdef"), 8, "with the tag 0123456789abcdef"),
        (("map", "show", "/nowhere/x"), 8, "there is no pin /nowhere/x: No such file"),
        (("map", "show", "/etc/passwd"), 3, "no pin: it is not in a bpffs"),
        (("prog", "show", "tag", "xyz"), 2, "'xyz' is no tag"),
        (("prog", "show", "id", "x"), 2, "'x' is no id"),
        (("prog", "show", "a", "b"), 2, "one thing at a time"),
        (("prog", "dmp"), 2, "did you mean dump?"),
        (("prog", "dump", "1", "--jited", "--cfg"), 2, "two questions"),
        (("prog", "dump", "--cfg", "png", "1"), 2, "'png' is not one of 'dot', 'svg'"),
        (("prog", "dump", "--cfg"), 2, "Missing argument"),
        (("prog", "dump", "--cfg=17"), 2, "'17' is not one of 'dot', 'svg'"),
        (("link", "list", "4294967290"), 8, "link 4294967290 does not exist"),
    ],
)
def test_what_is_not_there(words: tuple[str, ...], code: int, message: str) -> None:
    done = run_cli(*words)
    assert done.code == code
    assert message in done.error


def test_several_of_one_name(loaded: Loaded) -> None:
    spec = ObjectSpec(compile_c(SOURCE, name="shown"))
    with load(spec, spec.programs[0], Hook.XDP) as other, nothing_left_open():
        done = run_cli("prog", "dump", "netbpf_shown")
        assert done.code == 2
        assert str(number(loaded)) in done.error
        assert str(number(other)) in done.error


def test_pins_that_lead_elsewhere(loaded: Loaded, pins: Path) -> None:
    sys_bpf.obj_pin(str(pins / "it"), loaded.program.fd.fileno())
    (pins / "to").symlink_to(pins / "it")
    done = run_cli("prog", "show", pins / "to")
    assert done.code == 1
    assert f"is a symbolic link to {pins}/it" in done.error
    done = run_cli("map", "show", pins / "it")
    assert done.code == 3
    assert "is a program, not a map" in done.error
    assert "is a directory" in run_cli("map", "show", pins).error


def test_names_with_escape_sequences_are_shown_escaped(loaded: Loaded, pins: Path) -> None:
    name = "it\x1b[31m"
    sys_bpf.obj_pin(str(pins / name), loaded.program.fd.fileno())
    done = run_cli("prog", "show", pins / name)
    assert "\x1b" not in done.out
    assert "it\\x1b[31m" in done.out


def test_no_permission_is_named(loaded: Loaded) -> None:
    code = (
        "import os\nos.setgroups([]); os.setgid(65534); os.setuid(65534)\n"
        "from netbpf.cli.main import main\nmain(['prog'])"
    )
    shown = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False
    )
    assert shown.returncode == 10
    assert "CAP_SYS_ADMIN is missing" in shown.stderr


def test_what_words_mean() -> None:
    assert parse(()) == Wanted()
    assert parse(("17",)) == Wanted(id=17)
    assert parse(("name", "17")) == Wanted(name="17")
    assert parse(("f00dcafe01234567",)) == Wanted(tag="f00dcafe01234567")
    assert parse(("a/b",)) == Wanted(path=Path("a/b"))
    assert choose.Wanted(name="a_name_longer_than_fifteen").fits(1, "a_name_longer_t")
