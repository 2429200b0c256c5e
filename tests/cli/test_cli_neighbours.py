"""Other managers' programs: whose they are, and what a dispatcher of theirs runs.

Their dispatchers need freplace, which not every kernel has; the ones here are stand-ins with the same name, constants
and pins, and run nothing.
"""

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from netbpf import layout
from netbpf.manager import neighbours
from tests.cli.lab import Lab, udp

CONFIG = {
    2: "struct { __u8 magic, version, number, frags; __u32 actions[10], priorities[10], flags[10]; }",
    1: "struct { __u8 number; __u32 actions[10], priorities[10]; }",
}
HEAD = {2: ".magic = 236, .version = 2, ", 1: ""}


def dispatcher(
    lab: Lab, kind: str = "xdp", *, version: int = 2, more: str = "", number: int = 3
) -> Path:
    """An object that looks as if it ran programs that go on after pass, pass and drop, and nothing."""
    variable, context = ("conf", "xdp_md") if kind == "xdp" else ("CONFIG", "__sk_buff")
    # bpfman counts the verdicts of tc from -1 (unspec).
    actions = "1 << 2, 1 << 2 | 1 << 1" if kind == "xdp" else "1 << 0 | 1 << 4, 1 << 1"
    return lab.compiled(
        f"""
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
{more}
static volatile const {CONFIG[version]} {variable} = {{
	{HEAD[version]}.number = {number}, .actions = {{ {actions}, 1U << 31 }},
	.priorities = {{ 10, 20, 50 }},
}};
SEC("{kind}") int {kind}_dispatcher(struct {context} *ctx)
{{
	return {variable}.number ? {2 if kind == "xdp" else 0} : 1;
}}
char _license[] SEC("license") = "GPL";
""",
        "dispatcher",
    )


def member(lab: Lab, name: str) -> Path:
    return lab.compiled(
        "#include <linux/bpf.h>\n#include <bpf/bpf_helpers.h>\n"
        f'SEC("xdp") int {name}(struct xdp_md *ctx) {{ return XDP_PASS; }}\n'
        'char _license[] SEC("license") = "GPL";\n',
        name,
    )


@pytest.fixture
def bpffs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A bpffs that netbpf takes for the host's, and one below it for bpfman's."""
    path = tmp_path / "bpf"
    path.mkdir()
    subprocess.run(["mount", "-t", "bpf", "-o", "mode=0700", "bpf", path], check=True)
    monkeypatch.setattr(layout, "BPFFS", path)
    monkeypatch.setattr(neighbours, "BPFMAN_FS", path / "bpfman")
    yield path
    subprocess.run(["umount", "-l", path], check=True)


def put(lab: Lab, bpffs: Path, source: Path, kind: str = "xdp") -> dict[str, Any]:
    """Attach what netbpf does not know of."""
    pin = bpffs / "it"
    lab.run(
        "bpftool", "prog", "load", source, pin, "type", "xdp" if kind == "xdp" else "classifier"
    )
    if kind == "xdp":
        lab.run("ip", "link", "set", "dut0", "xdpdrv", "pinned", pin)
    else:
        lab.run("tc", "qdisc", "add", "dev", "dut0", "clsact")
        lab.run("tc", "filter", "add", "dev", "dut0", "ingress", "bpf", "da", "object-pinned", pin)
    [hook] = lab.hooks()
    return hook


def libxdp_pins(lab: Lab, bpffs: Path, prog_id: int, *names: str) -> Path:
    """What libxdp pins beside a dispatcher."""
    directory = bpffs / "xdp" / f"dispatch-{lab.wire.dut.ifindex}-{prog_id}"
    directory.mkdir(mode=0o700, parents=True)
    for number, name in enumerate(names):
        lab.run(
            "bpftool",
            "prog",
            "load",
            member(lab, name),
            directory / f"prog{number}-prog",
            "type",
            "xdp",
        )
    return directory


@pytest.mark.parametrize("version", [1, 2])
def test_a_dispatcher_of_libxdp(lab: Lab, bpffs: Path, version: int) -> None:
    # Other constants may lie before the configuration.
    more = "const volatile __u64 before = 5;"
    source = dispatcher(lab, version=version, more=more if version == 2 else "")
    number = put(lab, bpffs, source)["program"]["id"]
    libxdp_pins(lab, bpffs, number, "acl", "count", "nat")
    [hook] = lab.hooks()
    assert (hook["manager"], hook["managed"], hook["members"]) == ("libxdp", False, [])
    found = hook["neighbours"]
    assert [
        (one["name"], one["position"], one["priority"], one["proceed_on"]) for one in found
    ] == [
        ("acl", 0, 10, ["pass"]),
        ("count", 1, 20, ["pass", "drop"]),
        ("nat", 2, 50, []),
    ]
    shown = lab("status").lines
    assert [line.split()[:2] for line in shown[2:]] == [
        ["1.", "acl"],
        ["2.", "count"],
        ["3.", "nat"],
    ]
    assert shown[3].endswith("priority 20, proceeds on pass, drop")
    assert str(found[1]["id"]) in shown[3]
    assert found[1]["tag"] in shown[3]


def test_it_is_not_touched(lab: Lab, bpffs: Path) -> None:
    number = put(lab, bpffs, dispatcher(lab))["program"]["id"]
    done = lab("attach", "xdp", "dut0", "builtin:xdp_count", code=7)
    assert f"xdp_dispatcher (program {number}, native, managed by libxdp, loaded " in done.error
    lab("detach", "xdp", "dut0", code=9)
    assert lab.hooks()[0]["program"]["id"] == number


def test_where_its_pins_are_not_to_be_seen(lab: Lab, bpffs: Path) -> None:
    """Inside of ``ip netns exec``: what the dispatcher says of its programs is known, their names are not."""
    put(lab, bpffs, dispatcher(lab))
    [hook] = lab.hooks()
    assert hook["manager"] == "libxdp"
    assert [(one["name"], one["id"], one["priority"]) for one in hook["neighbours"]] == [
        (None, None, 10), (None, None, 20), (None, None, 50),
    ]  # fmt: skip
    assert lab("status").lines[2].split()[:2] == ["1.", "?"]


def test_a_dispatcher_of_a_version_to_come(lab: Lab, bpffs: Path) -> None:
    """Of what is not understood nothing is said; the pins still tell who is there."""
    source = dispatcher(lab)
    data = source.read_bytes()
    source.write_bytes(data.replace(bytes([236, 2, 3, 0]), bytes([236, 9, 3, 0])))
    assert source.read_bytes() != data
    number = put(lab, bpffs, source)["program"]["id"]
    libxdp_pins(lab, bpffs, number, "acl")
    [hook] = lab.hooks()
    assert hook["manager"] == "libxdp"
    assert [(one["name"], one["priority"], one["proceed_on"]) for one in hook["neighbours"]] == [
        ("acl", None, None)
    ]


@pytest.mark.parametrize("number", [0, 11, 255])
def test_numbers_that_cannot_be(lab: Lab, bpffs: Path, number: int) -> None:
    put(lab, bpffs, dispatcher(lab, number=number))
    assert lab.hooks()[0]["neighbours"] == []
    assert lab("status").code == 0


def test_only_the_name_is_not_enough(lab: Lab, bpffs: Path) -> None:
    assert put(lab, bpffs, member(lab, "xdp_dispatcher"))["manager"] is None


def test_pins_that_others_can_make_are_not_believed(lab: Lab, bpffs: Path) -> None:
    number = put(lab, bpffs, dispatcher(lab))["program"]["id"]
    directory = libxdp_pins(lab, bpffs, number, "acl")
    (directory / "prog1-prog").symlink_to(directory / "prog0-prog")
    (directory / "prog0-link").mkdir()
    names = [one["name"] for one in lab.hooks()[0]["neighbours"]]
    assert names == ["acl", None, None]
    directory.chmod(0o777)
    assert [one["name"] for one in lab.hooks()[0]["neighbours"]] == [None, None, None]


@pytest.mark.parametrize("kind", ["xdp", "tc"])
def test_a_dispatcher_of_bpfman(lab: Lab, bpffs: Path, kind: str) -> None:
    [other] = lab.wires(1)
    lab("attach", "xdp", other.dut.ifname, member(lab, "theirs"), "--link")
    [linked] = lab.hooks()
    base = bpffs / "bpfman" / ("xdp" if kind == "xdp" else "tc-ingress")
    for revision in (9, 10):
        (base / f"dispatcher_{lab.wire.dut.ifindex}_{revision}").mkdir(mode=0o700, parents=True)
    pin = base / f"dispatcher_{lab.wire.dut.ifindex}_10" / "link_77"
    lab.run("bpftool", "link", "pin", "id", linked["link_id"], pin)
    lab.run("bpftool", "prog", "load", dispatcher(lab, kind, version=2 if kind == "xdp" else 1, number=2),
            bpffs / "it", "type", "xdp" if kind == "xdp" else "classifier")  # fmt: skip
    if kind == "xdp":
        lab.run("ip", "link", "set", "dut0", "xdpdrv", "pinned", bpffs / "it")
    else:
        lab.run("tc", "qdisc", "add", "dev", "dut0", "clsact")
        lab.run(
            "tc",
            "filter",
            "add",
            "dev",
            "dut0",
            "ingress",
            "bpf",
            "da",
            "object-pinned",
            bpffs / "it",
        )
    [hook] = [one for one in lab.hooks() if one["interface"] == "dut0"]
    assert hook["manager"] == "bpfman"
    found = [(one["name"], one["priority"], one["proceed_on"]) for one in hook["neighbours"]]
    first, second = (["pass"], ["pass", "drop"]) if kind == "xdp" else (["unspec", "pipe"], ["ok"])
    assert found == [("theirs", 10, first), (None, 20, second)]
    shutil.rmtree(base, ignore_errors=True)
    pin.unlink(missing_ok=True)


def test_cilium_and_what_nobody_claims(lab: Lab, bpffs: Path) -> None:
    assert put(lab, bpffs, member(lab, "cil_xdp_entry"))["manager"] == "cilium"
    assert lab.hooks()[0]["neighbours"] == []


@pytest.mark.skipif(not shutil.which("xdp-loader"), reason="xdp-loader is not installed")
def test_xdp_loader_understands_chains(lab: Lab) -> None:
    """It shows a chain as the one program that it is for the kernel, and leaves it alone."""
    lab("attach", "xdp", "dut0", "builtin:xdp_count", "builtin:xdp_globals")
    [hook] = lab.hooks()
    shown = lab.run("xdp-loader", "status", "dut0")
    [line] = [one for one in shown.splitlines() if one.startswith("dut0")]
    assert "netbpf_chain" in line
    assert str(hook["program"]["id"]) in line
    refused = lab.wire.dut.run(
        subprocess.run, ["xdp-loader", "load", "dut0", str(member(lab, "other"))],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert refused.returncode
    udp(lab.wire.peer, number=3)
    assert lab.get("dut0", "xdp_globals.packets") == 3
    assert lab.hooks() == [hook]
