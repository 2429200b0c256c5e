"""``--share`` and ``--map``: members, interfaces and namespaces that use one map."""

import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cli.lab import Lab, run_cli, udp
from tests.support.waiting import eventually, exists

SOURCE = """
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
struct value { __u64 packets; __u32 last; __u32 port; };
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 16);
	__type(key, __u32);
	__type(value, struct value);
} flows SEC(".maps");
const volatile __u32 slot = 0;
__u32 step = 1;
__u64 seen;

static __always_inline int count(void)
{
	struct value empty = {};
	__u32 key = slot;
	struct value *found;

	__sync_fetch_and_add(&seen, 1);
	bpf_map_update_elem(&flows, &key, &empty, BPF_NOEXIST);
	found = bpf_map_lookup_elem(&flows, &key);
	if (found)
		__sync_fetch_and_add(&found->packets, step);
	return 0;
}

SEC("xdp") int first(struct xdp_md *ctx) { count(); return XDP_PASS; }
SEC("tc") int later(struct __sk_buff *ctx) { count(); return -1; }
char _license[] SEC("license") = "GPL";
"""


def named(lab: Lab, name: str, source: str = SOURCE) -> Path:
    """An object whose XDP program is called ``name``."""
    return lab.compiled(source.replace(" first(", f" {name}("), name)


def members(lab: Lab, interface: str = "dut0") -> dict[str, dict[str, Any]]:
    """The members of an interface's chain, or its only program, as ``stats`` shows them."""
    [hook] = lab("stats", interface, "--json").json["hooks"]
    return {one["name"]: one for one in hook["members"]} if hook.get("members") else {"": hook}


def map_id(hook: dict[str, Any], name: str = "flows") -> int:
    return next(int(one["id"]) for one in hook["maps"] if one["name"] == name)


def packets(hook: dict[str, Any], key: int = 0) -> int:
    [found] = [one for one in hook["maps"] if one["name"] == "flows"]
    return sum(int(e["value"]["packets"]) for e in found["entries"] if e["key"] == key)


@pytest.fixture
def bpffs(tmp_path: Path) -> Iterator[Path]:
    path = tmp_path / "bpf"
    path.mkdir()
    subprocess.run(["mount", "-t", "bpf", "bpf", path], check=True)
    yield path
    subprocess.run(["umount", "-l", path], check=True)


# --- who shares ---


def test_members_of_one_hook(lab: Lab) -> None:
    lab("attach", "xdp", "dut0", named(lab, "a"))
    lab("attach", "xdp", "dut0", named(lab, "b"), "--share", "flows=dut0/xdp/a")
    lab("attach", "xdp", "dut0", named(lab, "c"))
    udp(lab.wire.peer, number=5)
    found = members(lab)
    assert map_id(found["a"]) == map_id(found["b"]) != map_id(found["c"])
    assert (packets(found["a"]), packets(found["c"])) == (10, 5)
    assert [one["variables"]["seen"] for one in found.values()] == [5, 5, 5]


def test_it_lasts_through_changes_of_the_chain_and_the_end_of_its_owner(lab: Lab) -> None:
    lab("attach", "xdp", "dut0", named(lab, "a"))
    lab("attach", "xdp", "dut0", named(lab, "b"), "--share", "flows=dut0/xdp/a")
    shared = map_id(members(lab)["a"])
    udp(lab.wire.peer, number=2)
    lab("chain", "set", "dut0", "b", "--priority", "10")
    udp(lab.wire.peer, number=2)
    lab("attach", "xdp", "dut0", named(lab, "c"), "--share", "flows=dut0/xdp/b")
    udp(lab.wire.peer, number=2)  # by three
    lab("detach", "xdp", "dut0", "a")
    udp(lab.wire.peer, number=2)
    found = members(lab)
    assert {map_id(one) for one in found.values()} == {shared}
    assert packets(found["b"]) == 4 + 4 + 6 + 4
    lab("detach", "xdp", "dut0", "c")
    [alone] = members(lab).values()
    assert (map_id(alone), packets(alone)) == (shared, 18)
    lab("detach", "xdp", "dut0")
    eventually(lambda: not exists("MAP", shared), f"map {shared} stays")
    done = lab("attach", "xdp", "dut0", named(lab, "d"), "--map", f"flows=id:{shared}", code=3)
    assert f"there is no map {shared}" in done.error


def test_xdp_and_tc_of_two_interfaces(lab: Lab) -> None:
    [other] = lab.wires(1)
    lab("attach", "xdp", "dut0", named(lab, "a"))
    lab("attach", "tc", "dut1", lab.compiled(SOURCE), "--share", "flows=dut0/xdp/a")
    lab(
        "attach",
        "tc",
        "dut0",
        lab.compiled(SOURCE),
        "--egress",
        "--share",
        "flows=dut1/tc/ingress/later",
    )
    udp(lab.wire.peer, number=3)
    udp(other.peer, number=4)
    [xdp] = [h for h in lab("stats", "dut0", "--json").json["hooks"] if h["hook"] == "xdp"]
    assert packets(xdp) == 7
    [tc] = members(lab, "dut1").values()
    assert map_id(tc) == map_id(xdp)
    udp(lab.wire.dut, number=2)
    assert packets(members(lab, "dut1")[""]) == 9


def test_another_namespace(lab: Lab) -> None:
    lab("attach", "xdp", "dut0", named(lab, "a"))
    far = lab.topology.wire()
    there = f"/proc/self/fd/{far.dut.namespace.fileno()}"
    share = ("--share", f"flows={lab.netns}:dut0/xdp/a")
    done = run_cli("attach", "xdp", far.dut.ifname, named(lab, "b"), *share, "--netns", there)
    assert (done.code, done.err) == (0, "")
    udp(far.peer, number=3)
    assert packets(members(lab)[""]) == 3
    assert run_cli("detach", "--all", "--netns", there).code == 0


def test_another_map_of_it(lab: Lab) -> None:
    """THEIR_MAP is called otherwise."""
    lab("attach", "xdp", "dut0", named(lab, "a"))
    source = SOURCE.replace("flows", "streams")
    done = lab(
        "attach", "xdp", "dut0", named(lab, "b", source), "--share", "streams=dut0/xdp/a", code=3
    )
    assert done.error.startswith("dut0/xdp/a has no map streams")
    assert "its maps are" in done.error
    lab("attach", "xdp", "dut0", named(lab, "b", source), "--share", "streams=dut0/xdp/a/flows")
    udp(lab.wire.peer, number=2)
    assert packets(members(lab)["a"]) == 4


def test_a_member_with_a_slash_in_its_name(lab: Lab) -> None:
    lab("attach", "xdp", "dut0", named(lab, "a"), "--name", "team/a")
    lab("attach", "xdp", "dut0", named(lab, "b"), "--share", "flows=dut0/xdp/team/a")
    lab("attach", "xdp", "dut0", named(lab, "c"), "--share", "flows=dut0/xdp/team/a/flows")
    found = members(lab)
    assert len({map_id(one) for one in found.values()}) == 1


def test_members_that_come_together(lab: Lab) -> None:
    a, b = named(lab, "a"), named(lab, "b")
    done = lab("attach", "xdp", "dut0", a, b, "--share", "flows=dut0/xdp/a", code=2)
    assert "2 objects have a map flows; say whose: --share a.flows or b.flows" in done.error
    assert not lab.hooks()
    lab("attach", "xdp", "dut0", a, b, "--share", "b.flows=dut0/xdp/a")
    udp(lab.wire.peer, number=2)
    found = members(lab)
    assert map_id(found["a"]) == map_id(found["b"])
    assert packets(found["a"]) == 4
    # What comes later is not there yet.
    lab("detach", "xdp", "dut0", "--all")
    lab("attach", "xdp", "dut0", a, b, "--share", "a.flows=dut0/xdp/b", code=8)


def test_by_id_and_by_pin_of_others(lab: Lab, bpffs: Path) -> None:
    subprocess.run(
        ["bpftool", "map", "create", bpffs / "theirs", "type", "hash", "key", "4", "value", "16",
         "entries", "16", "name", "theirs"], check=True,
    )  # fmt: skip
    lab("attach", "xdp", "dut0", named(lab, "a"), "--map", f"flows=pinned:{bpffs / 'theirs'}")
    shared = map_id(members(lab)[""], "theirs")
    lab("attach", "xdp", "dut0", named(lab, "b"), "--map", f"flows=id:{shared}")
    assert map_id(members(lab)["b"], "theirs") == shared
    udp(lab.wire.peer, number=3)
    dump = subprocess.run(
        ["bpftool", "--json", "map", "dump", "pinned", bpffs / "theirs"],
        capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    assert '"value":["0x06","0x00"' in dump
    lab("detach", "xdp", "dut0", "--all")
    assert (bpffs / "theirs").exists()


def test_a_program_that_netbpf_did_not_attach_names_its_maps(lab: Lab, bpffs: Path) -> None:
    path = named(lab, "theirs")
    lab.run("bpftool", "prog", "load", path, bpffs / "theirs", "type", "xdp")
    lab.run("ip", "link", "set", "dut0", "xdpdrv", "pinned", bpffs / "theirs")
    [other] = lab.wires(1)
    done = lab("attach", "xdp", "dut1", named(lab, "a"), "--share", "flows=dut0/xdp/theirs", code=9)
    assert "dut0 xdp runs theirs, which netbpf did not attach; its maps are" in done.error
    [wanted] = [
        word
        for word in done.error.split("its maps are ")[1].split(", ")
        if word.startswith("flows ")
    ]
    number = wanted.removeprefix("flows (id ").split(")")[0]
    lab("attach", "xdp", "dut1", named(lab, "a"), "--map", f"flows=id:{number}")
    udp(other.peer, number=2)
    udp(lab.wire.peer, number=1)
    assert packets(members(lab, "dut0")[""]) == 3
    lab.run("ip", "link", "set", "dut0", "xdpdrv", "off")


# --- variables ---


def test_variables_of_the_same_layout(lab: Lab) -> None:
    lab("attach", "xdp", "dut0", named(lab, "a"), "--set", "step=5")
    lab(
        "attach", "xdp", "dut0", named(lab, "b"),
        "--share", ".bss=dut0/xdp/a", "--share", ".data=dut0/xdp/a", "--share", ".rodata=dut0/xdp/a",
    )  # fmt: skip
    udp(lab.wire.peer, number=3)
    found = members(lab)
    assert found["a"]["variables"] == found["b"]["variables"] == {"slot": 0, "step": 5, "seen": 6}
    assert packets(found["b"]) == 15
    lab("set", "dut0", "b.step=7")
    assert lab.get("dut0", "a.step") == 7


def test_constants_have_to_be_the_same(lab: Lab) -> None:
    lab("attach", "xdp", "dut0", named(lab, "a"), "--set", "slot=3")
    share = ("--share", ".rodata=dut0/xdp/a")
    done = lab("attach", "xdp", "dut0", named(lab, "b"), *share, code=3)
    assert "variable slot has another value there" in done.error
    lab("attach", "xdp", "dut0", named(lab, "b"), "--set", "slot=3", *share, code=2)
    assert len(lab.hooks()) == 1


def test_what_is_shared_is_not_set(lab: Lab) -> None:
    lab("attach", "xdp", "dut0", named(lab, "a"))
    done = lab(
        "attach", "xdp", "dut0", named(lab, "b"), "--share", ".data=dut0/xdp/a", "--set", "step=2",
        code=2,
    )  # fmt: skip
    assert "--set changes a variable in .data, which is shared" in done.error
    done = lab(
        "attach", "xdp", "dut0", named(lab, "b"), "--share", "flows=dut0/xdp/a",
        "--map-size", "flows=32", code=2,
    )  # fmt: skip
    assert "--map-size flows: it is shared" in done.error


# --- what does not fit ---

CHANGES = {
    "type": ("BPF_MAP_TYPE_HASH", "BPF_MAP_TYPE_LRU_HASH", "type hash instead of lru_hash"),
    "key": ("__type(key, __u32)", "__type(key, __u64)", "key size 4 instead of 8"),
    "value": ("struct value { ", "struct value { __u64 more; ", "value size 16 instead of 24"),
    "flags": (
        "__uint(max_entries, 16);",
        "__uint(max_entries, 16); __uint(map_flags, 1);",
        "flags 0 instead of no_prealloc",
    ),
    "layout": ("__u32 last; __u32 port;", "__u64 last;", "last was u32, is u64"),
    "names": ("__u32 last; __u32 port;", "__u32 last; __u32 gate;", "its value.port is gone"),
    "sign": ("__type(key, __u32)", "__type(key, __s32)", "its key was u32, is s32"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_what_does_not_fit_is_named(lab: Lab, change: str) -> None:
    old, new, words = CHANGES[change]
    source = SOURCE.replace(old, new).replace(
        "__u32 key = slot;", "__typeof__(*flows.key) key = slot;"
    )
    assert old in SOURCE
    lab("attach", "xdp", "dut0", named(lab, "a"))
    [before] = lab.hooks()
    path = named(lab, "b", source)
    done = lab("attach", "xdp", "dut0", path, "--share", "flows=dut0/xdp/a", code=3)
    assert "dut0/xdp/a cannot be map flows of b.o: " in done.error
    assert words in done.error
    assert lab.hooks() == [before]
    # The same by its number: it is the map that is asked, not who has it.
    number = map_id(members(lab)[""])
    done = lab("attach", "xdp", "dut0", path, "--map", f"flows=id:{number}", code=3)
    assert words in done.error


def test_variables_of_another_layout(lab: Lab) -> None:
    lab("attach", "xdp", "dut0", named(lab, "a"))
    other = SOURCE.replace("__u64 seen;", "__s64 seen;")
    done = lab(
        "attach", "xdp", "dut0", named(lab, "b", other), "--share", ".bss=dut0/xdp/a", code=3
    )
    assert "seen was u64, is s64" in done.error


def test_another_size_is_said_aloud(lab: Lab) -> None:
    lab("attach", "xdp", "dut0", named(lab, "a"))
    larger = SOURCE.replace("__uint(max_entries, 16)", "__uint(max_entries, 64)")
    done = lab("attach", "xdp", "dut0", named(lab, "b", larger), "--share", "flows=dut0/xdp/a")
    assert (
        "netbpf: note: map flows: dut0/xdp/a has room for 16 entries, the object asks for 64"
        in done.err
    )


BAD = {
    ("--share", "flows"): (2, "is not MAP=IFACE/HOOK/MEMBER[/MAP]; such as"),
    ("--share", "flows=dut0"): (2, "is not MAP="),
    ("--share", "flows=dut0/xdp"): (2, "is not MAP="),
    ("--share", "flows=dut0/tc/a"): (2, "is not MAP="),
    ("--share", "=dut0/xdp/a"): (2, "is not MAP="),
    ("--share", "flwos=dut0/xdp/a"): (3, "b.o has no map flwos; did you mean flows?"),
    ("--share", "flows=dut0/xdp/aa"): (8, "dut0 has no member aa; did you mean a?"),
    ("--share", "flows=dut0/xdp/a/flow"): (3, "dut0/xdp/a has no map flow; did you mean flows?"),
    ("--share", "flows=dut7/xdp/a"): (6, "dut7"),
    ("--share", "flows=dut0/tc/egress/a"): (8, "no TC program is attached on dut0"),
    ("--share", "flows=none:dut0/xdp/a"): (6, "none"),
    ("--map", "flows=4"): (2, "is not NAME=pinned:PATH or NAME=id:N"),
    ("--map", "flows=id:"): (2, "is not NAME="),
    ("--map", "flows=id:x"): (2, "'x' is no map id"),
    ("--map", "flows=id:99999999999"): (2, "is no map id"),
    ("--map", "flows=id:4294967295"): (3, "there is no map 4294967295"),
    ("--map", "flows=pinned:/nowhere"): (3, "cannot open /nowhere"),
    ("--map", "flows=pinned:/etc/passwd"): (3, "/etc/passwd is no pin of a map"),
    ("--map", "flows=pinned:/etc"): (3, "/etc is no pin of a map"),
}


@pytest.mark.parametrize("words", BAD, ids=" ".join)
def test_what_cannot_be(lab: Lab, words: tuple[str, str]) -> None:
    code, text = BAD[words]
    lab("attach", "xdp", "dut0", named(lab, "a"))
    before = lab.hooks()
    done = lab("attach", "xdp", "dut0", named(lab, "b"), *words, code=code)
    assert text in done.error
    assert lab.hooks() == before


def test_the_same_map_twice(lab: Lab) -> None:
    lab("attach", "xdp", "dut0", named(lab, "a"))
    number = map_id(members(lab)[""])
    done = lab(
        "attach", "xdp", "dut0", named(lab, "b"),
        "--share", "flows=dut0/xdp/a", "--map", f"flows=id:{number}", code=2,
    )  # fmt: skip
    assert "map flows is given twice" in done.error


def test_a_map_that_the_program_does_not_use(lab: Lab) -> None:
    lab("attach", "xdp", "dut0", named(lab, "a"))
    source = SOURCE.replace(
        'SEC("tc")', 'SEC("xdp") int idle(struct xdp_md *ctx) { return 2; }\nSEC("tc")'
    )
    path = named(lab, "b", source)
    done = lab("attach", "xdp", "dut0", path, "-n", "idle", "--share", "flows=dut0/xdp/a", code=3)
    assert "idle uses no map flows" in done.error


def test_pins_that_are_no_maps_or_lead_elsewhere(lab: Lab, bpffs: Path) -> None:
    lab.run("bpftool", "prog", "load", named(lab, "a"), bpffs / "program", "type", "xdp")
    done = lab(
        "attach",
        "xdp",
        "dut0",
        named(lab, "b"),
        "--map",
        f"flows=pinned:{bpffs / 'program'}",
        code=3,
    )
    assert "is no map but a bpf-prog" in done.error
    (bpffs / "link").symlink_to(bpffs / "program")
    done = lab(
        "attach", "xdp", "dut0", named(lab, "b"), "--map", f"flows=pinned:{bpffs / 'link'}", code=1
    )
    assert "is a symbolic link" in done.error


def test_what_is_given_is_not_pinned(lab: Lab, bpffs: Path) -> None:
    """``--pin-maps`` is about the maps that netbpf makes."""
    source = SOURCE.replace(
        "__uint(max_entries, 16);", "__uint(max_entries, 16); __uint(pinning, LIBBPF_PIN_BY_NAME);"
    )
    lab("attach", "xdp", "dut0", named(lab, "a", source))
    bpffs.chmod(0o700)
    pins = ("--pin-maps", bpffs / "maps")
    lab("attach", "xdp", "dut0", named(lab, "b", source), "--share", "flows=dut0/xdp/a", *pins)
    assert not (bpffs / "maps" / "flows").exists()
