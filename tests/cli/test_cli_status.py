"""``netbpf status``: every program on every hook, whoever put it there."""

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.cli.lab import ROOT, Hook, Lab, run_cli

# The contract that scripts rely on: keys and the types of their values.
HOOK = {
    "interface": str, "ifindex": int, "netns": (str, type(None)), "hook": str, "mode": str, "managed": bool,
    "manager": (str, type(None)), "program": dict, "object": (dict, type(None)), "link_id": (int, type(None)),
}  # fmt: skip
PROGRAM = {"id": int, "name": str, "tag": str, "type": str, "map_ids": list}


def check_contract(hook: Hook) -> None:
    for key, kind in HOOK.items():
        assert isinstance(hook[key], kind), key  # type: ignore[arg-type]
    for key, kind in PROGRAM.items():
        assert isinstance(hook["program"][key], kind), key
    assert hook["hook"] in ("xdp", "tc/ingress", "tc/egress")
    assert hook["mode"] in ("native", "skb", "hw", "clsact", "tcx")
    if hook["object"] is not None:
        assert set(hook["object"]) == {"path", "sha256"}
        assert len(hook["object"]["sha256"]) == 64


def test_nothing(lab: Lab) -> None:
    assert lab("status").lines == ["no XDP or TC program"]
    assert lab("status", "dut0").lines == ["no XDP or TC program on dut0"]
    assert lab("status", "--json").json == {
        "schema": "netbpf.status/1", "hooks": [], "auto": [], "loaded": [], "pending": [], "went_back": [],
    }  # fmt: skip


def test_all_kinds_in_json(lab: Lab) -> None:
    lab.wires(2)
    lab("attach", "xdp", "dut0", "builtin:xdp_count")
    lab("attach", "xdp", "dut1", "builtin:xdp_count", "--link", "--mode", "skb")
    lab("attach", "tc", "dut0", "builtin:tc_count")
    lab("attach", "tc", "dut1", "builtin:tc_count", "--egress", "--link")
    found = lab("status", "--json").json
    assert set(found) == {"schema", "hooks", "auto", "loaded", "pending", "went_back"}
    assert found["schema"] == "netbpf.status/1"
    hooks = found["hooks"]
    for hook in hooks:
        check_contract(hook)
        assert hook["managed"] is True
        assert hook["manager"] == "netbpf"
        assert hook["netns"] == lab.netns
    assert [
        (one["interface"], one["hook"], one["mode"], bool(one["link_id"])) for one in hooks
    ] == [
        ("dut0", "xdp", "native", False),
        ("dut0", "tc/ingress", "clsact", False),
        ("dut1", "xdp", "skb", True),
        ("dut1", "tc/egress", "tcx", True),
    ]
    # bpftool's view of the same programs.
    for hook in hooks:
        program = hook["program"]
        seen = json.loads(lab.run("bpftool", "-j", "prog", "show", "id", program["id"]))
        assert (seen["name"], seen["tag"], seen["type"]) == (
            program["name"],
            program["tag"],
            program["type"],
        )
        assert sorted(seen["map_ids"]) == sorted(program["map_ids"])


def test_text_columns(lab: Lab) -> None:
    lab("attach", "xdp", "dut0", "builtin:xdp_count")
    lab("attach", "tc", "dut0", "builtin:tc_count", "--egress", "--link")
    head, first, second = lab("status").lines
    xdp, tc = (one["program"] for one in lab.hooks())
    assert head.split() == "INTERFACE HOOK MODE PROGRAM ID TAG MANAGER SINCE OBJECT".split()
    assert first.split() == [
        "dut0", "xdp", "native", "xdp_count", str(xdp["id"]), xdp["tag"], "netbpf", "0s", "builtin:xdp_count",
    ]  # fmt: skip
    assert second.split() == [
        "dut0", "tc/egress", "tcx", "link", "tc_count", str(tc["id"]), tc["tag"], "netbpf", "0s", "builtin:tc_count",
    ]  # fmt: skip
    # Columns are aligned: every value begins, or ends, where its head does.
    for word, line in (("MODE", first), ("MODE", second), ("TAG", first), ("OBJECT", second)):
        assert line[head.index(word) - 1] == " "
        assert line[head.index(word)] != " "


def test_one_interface(lab: Lab) -> None:
    lab.wires(1)
    lab("attach", "xdp", "dut0,dut1", "builtin:xdp_count")
    assert [one["interface"] for one in lab.hooks("dut1")] == ["dut1"]
    assert len(lab("status", "dut1").lines) == 2


def test_paths_below_here_are_short(lab: Lab) -> None:
    lab("attach", "xdp", "dut0", lab.object("filter"))
    assert lab("status").lines[1].endswith("  filter.o")


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0s"),
        (59.9, "59s"),
        (60, "1m"),
        (200, "3m 20s"),
        (7800, "2h 10m"),
        (90000, "1d 1h"),
        (864000, "10d"),
    ],
)
def test_ages(seconds: float, text: str) -> None:
    from netbpf.text import ago

    assert ago(seconds) == text


def test_since_when(lab: Lab) -> None:
    before = time.time()
    lab("attach", "xdp", "dut0", "builtin:xdp_count")
    [hook] = lab.hooks()
    assert before <= hook["attached_at"] <= time.time()


def test_a_renamed_interface(lab: Lab) -> None:
    lab("attach", "xdp", "dut0", "builtin:xdp_count")
    lab("attach", "tc", "dut0", "builtin:tc_count")
    before = lab.hooks()
    lab.run("ip", "link", "set", "dut0", "name", "renamed")
    after = lab.hooks()
    assert [one["interface"] for one in after] == ["renamed", "renamed"]
    assert [one | {"interface": "dut0"} for one in after] == before
    lab("detach", "xdp", "renamed")
    lab("detach", "tc", "renamed")
    assert lab.hooks() == []
    lab.run("ip", "link", "set", "renamed", "name", "dut0")


ODD = ["a;b$(x)", "\x1b[31mred", "ü", "a'b\"c", "#", "*"]


@pytest.mark.parametrize("name", ODD)
def test_odd_names(lab: Lab, name: str) -> None:
    lab.run("ip", "link", "set", "dut0", "name", name)
    done = lab("attach", "xdp", name.replace("*", "[*]"), "builtin:xdp_count")
    assert "\x1b" not in done.out
    assert lab.hooks()[0]["interface"] == name
    assert "\x1b" not in lab("status").out
    assert "\x1b" not in lab("stats", name).out
    assert lab("stats", name, "--json").json["hooks"][0]["interface"] == name
    done = lab("attach", "xdp", name.replace("*", "[*]"), "builtin:xdp_count", code=7)
    assert "\x1b" not in done.error
    assert "\x1b" not in lab("detach").out
    lab.run("ip", "link", "set", name, "name", "dut0")


# --- other namespaces ---


def test_the_same_name_in_two_namespaces(lab: Lab) -> None:
    other = lab.topology.wire(names=("dut0", "peer0"))
    lab("attach", "xdp", "dut0", "builtin:xdp_count")
    path = lab.netns.rpartition("/")[0] + f"/{other.dut.namespace.fileno()}"
    assert run_cli("status", "--netns", path).lines == ["no XDP or TC program"]
    assert run_cli("attach", "xdp", "dut0", "builtin:xdp_globals", "--netns", path).code == 0
    assert lab.programs() == [("dut0", "xdp", "xdp_count")]
    assert run_cli("detach", "--netns", path).out.startswith("dut0 xdp: xdp_globals detached")
    assert lab.programs() == [("dut0", "xdp", "xdp_count")]


def test_every_namespace(lab: Lab) -> None:
    """A namespace with a process in it is found, and said by which words to get there."""
    lab("attach", "xdp", "dut0", "builtin:xdp_count")
    [mine] = lab.hooks()
    with lab.namespace.run(
        subprocess.Popen,
        [sys.executable, "-c", "import sys; print(flush=True); sys.stdin.read()"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    ) as inside:  # fmt: skip
        assert inside.stdout is not None
        inside.stdout.readline()
        pid = f"pid:{inside.pid}"
        found = [
            one
            for one in run_cli("status", "--all-netns", "--json").json["hooks"]
            if one["program"]["id"] == mine["program"]["id"]
        ]
        assert [(one["netns"], one["managed"]) for one in found] == [(pid, True)]
        text = run_cli("status", "--all-netns").lines
        assert text[0].startswith("NETNS ")
        assert [line for line in text if line.startswith(f"{pid} ")]
        assert run_cli("status", "--netns", pid).lines[1].split()[0] == "dut0"
        assert inside.stdin is not None
        inside.stdin.close()


def test_all_namespaces_and_one_contradict(lab: Lab) -> None:
    assert "contradict" in lab("status", "--all-netns", code=2).error


# --- programs of others ---


def test_attached_with_ip(lab: Lab) -> None:
    lab.run("ip", "link", "set", "dut0", "xdp", "obj", lab.object("filter"), "sec", "xdp")
    [hook] = lab.hooks()
    check_contract(hook)
    assert (hook["mode"], hook["managed"], hook["manager"], hook["object"]) == (
        "native",
        False,
        None,
        None,
    )
    assert hook["program"]["name"] == "xdp_filter"
    line = lab("status").lines[1].split()
    assert line[6:] == ["-", "0s", "-"]


def test_attached_with_tc(lab: Lab) -> None:
    lab.run("tc", "qdisc", "add", "dev", "dut0", "clsact")
    for direction in ("ingress", "egress"):
        lab.run(
            "tc", "filter", "add", "dev", "dut0", direction, "bpf", "da", "obj", lab.object("filter"), "sec", "tc"
        )  # fmt: skip
    hooks = lab.hooks()
    assert [(one["hook"], one["mode"], one["managed"]) for one in hooks] == [
        ("tc/ingress", "clsact", False),
        ("tc/egress", "clsact", False),
    ]


def in_bpffs(lab: Lab, script: str) -> None:
    """Run a shell script with a bpffs of its own at /sys/fs/bpf."""
    lab.run("unshare", "-m", "sh", "-ec", f"mount -t bpf bpf /sys/fs/bpf; {script}")


def test_attached_with_bpftool(lab: Lab) -> None:
    path = lab.object("shared")
    in_bpffs(
        lab,
        f"bpftool prog load {path} /sys/fs/bpf/x type xdp pinmaps /sys/fs/bpf;"
        "bpftool net attach xdpgeneric pinned /sys/fs/bpf/x dev dut0",
    )
    [hook] = lab.hooks()
    assert (hook["mode"], hook["managed"], hook["program"]["name"]) == ("skb", False, "count")


def test_attached_with_xdp_loader(lab: Lab) -> None:
    # Where the kernel has no freplace, xdp-loader attaches the program itself, without a dispatcher.
    in_bpffs(lab, f"xdp-loader load -m native dut0 {lab.object('shared')}")
    [hook] = lab.hooks()
    assert hook["managed"] is False
    assert hook["program"]["name"] in ("count", "xdp_dispatcher")
    assert hook["manager"] == ("libxdp" if hook["program"]["name"] == "xdp_dispatcher" else None)


@pytest.mark.parametrize(
    ("name", "manager"),
    [("cil_xdp_entry", "cilium"), ("plain", None)],
)
def test_managers_known_by_their_names(lab: Lab, name: str, manager: str | None) -> None:
    path = lab.compiled(
        "#include <linux/bpf.h>\n#include <bpf/bpf_helpers.h>\n"
        f'SEC("xdp") int {name}(struct xdp_md *ctx) {{ return XDP_PASS; }}\n'
        'char _license[] SEC("license") = "GPL";\n'
    )
    lab.run("ip", "link", "set", "dut0", "xdp", "obj", path, "sec", "xdp")
    [hook] = lab.hooks()
    assert hook["manager"] == manager
    done = lab("attach", "xdp", "dut0", "builtin:xdp_count", code=7)
    assert (f"managed by {manager}" if manager else "not managed by netbpf") in done.error


def test_netbpfs_own_after_another_tool_replaced_it(lab: Lab) -> None:
    lab("attach", "xdp", "dut0", "builtin:xdp_count")
    lab.run("ip", "-force", "link", "set", "dut0", "xdp", "obj", lab.object("filter"), "sec", "xdp")
    [hook] = lab.hooks()
    assert (hook["program"]["name"], hook["managed"], hook["object"]) == ("xdp_filter", False, None)


def test_looking_changes_nothing(lab: Lab, private: Path) -> None:
    lab("attach", "xdp", "dut0", "builtin:xdp_count")
    files = {path: path.stat().st_mtime_ns for path in private.rglob("*") if path.is_file()}
    lab("status")
    lab("stats", "dut0")
    assert files == {p: p.stat().st_mtime_ns for p in private.rglob("*") if p.is_file()}


NAMED = """
mount -t tmpfs tmpfs /run/netns || { mkdir -p /run/netns; mount -t tmpfs tmpfs /run/netns; }
ip netns add blue
ip -n blue link add v0 type veth peer name v1
"$@" attach xdp v0 builtin:xdp_count --netns blue >/dev/null
"$@" status --netns blue --json
"$@" status --all-netns --json
"$@" attach xdp v0 builtin:xdp_count --netns blue 2>&1 || true
ip netns delete blue
"$@" detach --netns blue
"""


@pytest.mark.root
def test_a_named_namespace(private: Path) -> None:
    """In a mount namespace with a /run/netns of its own."""
    done = subprocess.run(
        ["unshare", "-mn", "sh", "-ec", NAMED, "sh", sys.executable, "-m", "netbpf"],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    one, everything, refused, detached = done.stdout.splitlines()
    [hook] = json.loads(one)["hooks"]
    check_contract(hook)
    assert (hook["netns"], hook["interface"], hook["managed"]) == ("blue", "v0", True)
    number = hook["program"]["id"]
    hooks = json.loads(everything)["hooks"]
    assert [h["netns"] for h in hooks if h["program"]["id"] == number] == ["blue"]
    assert refused.endswith("netbpf detach xdp v0 --netns blue")
    assert detached == (
        f"v0 xdp: xdp_count nothing to detach: network namespace blue is gone (program {number})"
    )
    assert not list((private / "hooks").iterdir())
