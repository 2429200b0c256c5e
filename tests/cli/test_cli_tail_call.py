"""Tail calls of members: filled at attach, lasting as long as the member, and what a prog array does not take."""

import contextlib
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from netbpf import layout
from netbpf.bpf.map import Map
from tests.cli.lab import Lab, frame, udp
from tests.support.flood import flood

HEAD = """
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
__u64 entered, fell, hits[4];
"""
ARRAY = """
struct {
	__uint(type, BPF_MAP_TYPE_PROG_ARRAY);
	__uint(max_entries, 4);
	__uint(key_size, 4);
	__uint(value_size, 4);
} jumps SEC(".maps");
"""
STATIC = """
int one(struct xdp_md *ctx);
struct {
	__uint(type, BPF_MAP_TYPE_PROG_ARRAY);
	__uint(max_entries, 4);
	__uint(key_size, 4);
	__array(values, int (void *));
} jumps SEC(".maps") = { .values = { [1] = (void *)&one } };
"""
PROGRAMS = """
SEC("xdp") int one(struct xdp_md *ctx) { __sync_fetch_and_add(&hits[1], 1); return XDP_PASS; }
SEC("xdp") int two(struct xdp_md *ctx) { __sync_fetch_and_add(&hits[2], 1); return XDP_PASS; }
SEC("xdp.frags") int wide(struct xdp_md *ctx) { return XDP_PASS; }
SEC("xdp/devmap") int onward(struct xdp_md *ctx) { return XDP_PASS; }
SEC("tc") int classify(struct __sk_buff *ctx) { return 0; }
SEC("xdp") int entry(struct xdp_md *ctx)
{
	__sync_fetch_and_add(&entered, 1);
	bpf_tail_call(ctx, &jumps, 1);
	__sync_fetch_and_add(&fell, 1);
	return XDP_PASS;
}
SEC("xdp") int plain(struct xdp_md *ctx) { return XDP_PASS; }
char _license[] SEC("license") = "GPL";
"""
FILLED = HEAD + ARRAY + PROGRAMS
INITIALISED = HEAD + STATIC + PROGRAMS
WAYS = {
    "option": (FILLED, ("--tail-call", "jumps[1]=one")),
    "initialiser": (INITIALISED, ()),
}
each_way = pytest.mark.parametrize("way", WAYS)


def attach(lab: Lab, way: str = "option", name: str = "entry", *more: object) -> None:
    source, options = WAYS[way]
    lab(
        "attach",
        "xdp",
        "dut0",
        lab.compiled(source),
        "-n",
        "entry",
        "--name",
        name,
        *options,
        *more,
    )


def counts(lab: Lab, member: str = "") -> tuple[int, int, int]:
    """Entered, through the tail call, fallen through it."""
    dot = f"{member}." if member else ""
    values = [lab.get("dut0", f"{dot}{one}") for one in ("entered", "hits[1]", "fell")]
    return values[0], values[1], values[2]


def pins() -> list[str]:
    """The ids of the maps that are pinned in netbpf's own bpffs."""
    found = Path(os.environ["NETBPF_STATE_DIR"]).glob("bpffs/netbpf/maps-*/*")
    return sorted(one.name for one in found)


def jumps(lab: Lab) -> int:
    [hook] = lab("stats", "dut0", "--json").json["hooks"]
    parts: list[dict[str, Any]] = [hook, *hook.get("members", [])]
    return next(int(m["id"]) for part in parts for m in part["maps"] if m["name"] == "jumps")


@pytest.fixture(autouse=True)
def own_bpffs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pins are in netbpf's own bpffs, which nobody else uses, also on a machine that has one for all."""
    monkeypatch.setattr(layout, "BPFFS", tmp_path / "none")


# --- they last ---


@each_way
def test_they_last(lab: Lab, way: str) -> None:
    attach(lab, way)
    udp(lab.wire.peer, number=3)
    assert counts(lab) == (3, 3, 0)
    # Whoever opens the map and closes it again empties it, were there no pin.
    with Map.by_id(jumps(lab)):
        pass
    udp(lab.wire.peer, number=2)
    assert counts(lab) == (5, 5, 0)


def test_without_a_pin_they_would_not(lab: Lab) -> None:
    """What the pins are for: the kernel empties the array once nobody holds it."""
    attach(lab)
    [pin] = Path(os.environ["NETBPF_STATE_DIR"]).glob("bpffs/netbpf/maps-*/*")
    pin.unlink()
    for _ in range(1000):  # the kernel does it a moment later
        udp(lab.wire.peer, number=1)
        if counts(lab)[2]:
            break
    entered, _, fell = counts(lab)
    assert fell
    assert entered > fell or entered == 1
    lab("detach", "xdp", "dut0")


@each_way
def test_they_last_in_a_chain_that_changes(lab: Lab, way: str) -> None:
    attach(lab, way, "jumper", "--priority", "20")
    lab("attach", "xdp", "dut0", "builtin:xdp_count", "--name", "before", "--priority", "10")
    udp(lab.wire.peer, number=2)
    lab("chain", "set", "dut0", "jumper", "--priority", "5")
    udp(lab.wire.peer, number=2)
    attach(lab, way, "second")
    udp(lab.wire.peer, number=2)
    lab("detach", "xdp", "dut0", "before")
    udp(lab.wire.peer, number=2)
    assert counts(lab, "jumper") == (8, 8, 0)
    assert counts(lab, "second") == (4, 4, 0)
    lab("detach", "xdp", "dut0", "second")
    udp(lab.wire.peer, number=2)
    assert counts(lab) == (10, 10, 0)


def test_in_a_chain_they_come_back_to_it(lab: Lab) -> None:
    """The program that is jumped to says the member's verdict: the next one runs."""
    attach(lab, "option", "jumper", "--priority", "20")
    lab("attach", "xdp", "dut0", "builtin:xdp_count", "--name", "after")
    udp(lab.wire.peer, number=4)
    [hook] = lab("chain", "dut0", "--json").json["hooks"]
    assert [(one["name"], one["packets"]) for one in hook["members"]] == [
        ("jumper", 4),
        ("after", 4),
    ]


# --- pins ---


@pytest.mark.parametrize("options", [(), ("--link",), ("--mode", "skb")], ids=" ".join)
def test_pins_come_and_go_with_the_member(lab: Lab, options: tuple[str, ...]) -> None:
    attach(lab, "option", "entry", *options)
    assert pins() == [str(jumps(lab))]
    lab("attach", "xdp", "dut0", "builtin:xdp_count", *options)
    assert pins() == [str(jumps(lab))]
    attach(lab, "option", "second", *options)
    assert len(pins()) == 2
    lab("detach", "xdp", "dut0", "second")
    assert pins() == [str(jumps(lab))]
    lab("detach", "xdp", "dut0", "entry")
    assert pins() == []


def test_an_array_that_two_hooks_share_goes_with_the_last(lab: Lab) -> None:
    lab.wires(1)
    attach(lab)
    number = str(jumps(lab))
    path = lab.compiled(FILLED)
    lab("attach", "xdp", "dut1", path, "-n", "entry", "--share", "jumps=dut0/xdp/entry")
    lab("detach", "xdp", "dut0")
    assert pins() == [number]
    lab("detach", "xdp", "dut1")
    assert pins() == []


def test_replacing_and_failing_leave_no_pin(lab: Lab) -> None:
    attach(lab)
    lab("attach", "xdp", "dut0", lab.compiled(FILLED), "-n", "entry", "--replace")
    assert pins() == [str(jumps(lab))]
    lab("attach", "xdp", "dut0", "builtin:xdp_count", "--replace")
    assert pins() == []
    lab.wires(1)
    lab("attach", "xdp", "dut1", lab.compiled(FILLED), "-n", "entry", "--mode", "hw", code=5)
    assert pins() == []


def test_a_directory_of_others_is_not_used(lab: Lab, private: Path) -> None:
    """Whoever can write to the directory could put another map in the place of the pin."""
    attach(lab)
    before = lab.hooks()
    directory = layout.map_pins(private / "bpffs")
    directory.chmod(0o777)
    done = lab("attach", "xdp", "dut0", lab.compiled(FILLED), "-n", "entry", "--name", "b", code=1)
    assert "is not a directory that only user 0 can write to" in done.error
    directory.chmod(0o700)
    assert lab.hooks() == before
    udp(lab.wire.peer, number=2)
    assert counts(lab) == (2, 2, 0)


def test_an_interface_that_vanishes_takes_its_pins_along(lab: Lab) -> None:
    lab.wires(1)
    lab("attach", "xdp", "dut1", lab.compiled(FILLED), "-n", "entry", "--tail-call", "jumps[1]=one")
    assert len(pins()) == 1
    lab.run("ip", "link", "del", "dut1")
    lab("attach", "xdp", "dut0", "builtin:xdp_count")
    assert pins() == []


@pytest.mark.parametrize("chained", [False, True], ids=["alone", "chain"])
def test_without_records_they_last_too(lab: Lab, private: Path, chained: bool) -> None:
    """/run/netbpf is emptied: what runs keeps its tail calls, whatever the next command sweeps."""
    attach(lab)
    if chained:
        lab("attach", "xdp", "dut0", "builtin:xdp_count")
    for path in (private / "hooks").iterdir():
        path.unlink()
    lab.wires(1)
    lab("attach", "xdp", "dut1", "builtin:xdp_count")
    udp(lab.wire.peer, number=3)
    [hook] = lab("stats", "dut0", "--json").json["hooks"]
    part = hook["members"][0] if chained else hook
    assert (part["variables"]["entered"], part["variables"]["fell"]) == (3, 0)
    assert len(pins()) == 1
    lab("detach", "xdp", "dut0", "--all", "--force")
    lab("detach", "xdp", "dut1")
    assert pins() == []


@pytest.mark.parametrize("others", [0, 1], ids=["alone", "chain"])
def test_what_goes_back_has_its_tail_calls_again(lab: Lab, others: int) -> None:
    """A detach that is not confirmed: until then the pins stay."""
    attach(lab)
    for _ in range(others):
        lab("attach", "xdp", "dut0", "builtin:xdp_count")
    lab("detach", "xdp", "dut0", "entry", "--confirm", "1h")
    lab("attach", "xdp", lab.wires(1)[0].dut.ifname, "builtin:xdp_count")
    assert len(pins()) == 1
    lab("confirm", "--undo")
    udp(lab.wire.peer, number=3)
    assert counts(lab, "entry" if others else "") == (3, 3, 0)
    lab("detach", "xdp", "dut0", "entry", "--confirm", "1h")
    lab("confirm")
    lab("detach", "--all")
    assert pins() == []


@pytest.mark.parametrize("way", WAYS)
def test_an_upgrade_fills_them_anew(lab: Lab, way: str) -> None:
    attach(lab, way)
    udp(lab.wire.peer, number=2)
    newer = WAYS[way][0].replace("&hits[1], 1)", "&hits[1], 10)")
    lab("upgrade", "xdp", "dut0", "entry", lab.compiled(newer, "newer"))
    udp(lab.wire.peer, number=2)
    assert counts(lab) == (4, 22, 0)
    assert pins() == [str(jumps(lab))]
    lab("rollback", "dut0", "entry")
    udp(lab.wire.peer, number=2)
    assert counts(lab) == (6, 24, 0)
    assert pins() == [str(jumps(lab))]


def test_timers_are_held_too(lab: Lab) -> None:
    """The kernel starts no timer in a map that user space does not hold."""
    source = """
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
struct timed { struct bpf_timer timer; };
struct { __uint(type, BPF_MAP_TYPE_ARRAY); __uint(max_entries, 1); __type(key, __u32);
	__type(value, struct timed); } clocks SEC(".maps");
long refused, rang, started;
static int ring(void *map, int *key, struct timed *value) { __sync_fetch_and_add(&rang, 1); return 0; }
SEC("xdp") int wind(struct xdp_md *ctx)
{
	__u32 key = 0;
	struct timed *found = bpf_map_lookup_elem(&clocks, &key);
	long error;
	if (!found) return XDP_ABORTED;
	error = bpf_timer_init(&found->timer, &clocks, 1);
	if (error && error != -16) __sync_fetch_and_add(&refused, 1);
	bpf_timer_set_callback(&found->timer, ring);
	if (!bpf_timer_start(&found->timer, 0, 0)) __sync_fetch_and_add(&started, 1);
	return XDP_PASS;
}
char _license[] SEC("license") = "GPL";
"""
    lab("attach", "xdp", "dut0", lab.compiled(source))
    assert len(pins()) == 1
    udp(lab.wire.peer, number=1)
    assert (lab.get("dut0", "refused"), lab.get("dut0", "started")) == (0, 1)
    lab("attach", "xdp", "dut0", "builtin:xdp_count")
    udp(lab.wire.peer, number=1)
    assert (lab.get("dut0", "refused"), lab.get("dut0", "started")) == (0, 2)
    for _ in range(1000):
        if lab.get("dut0", "rang"):
            break
    assert lab.get("dut0", "rang")


# --- chains of several programs ---


def many_maps(lab: Lab, name: str) -> Path:
    """An object with so many maps that two of its kind do not fit into one program."""
    maps = "".join(
        f"struct {{ __uint(type, BPF_MAP_TYPE_ARRAY); __uint(max_entries, 1); __type(key, __u32);"
        f' __type(value, __u64); }} m{number} SEC(".maps");\n'
        for number in range(40)
    )
    uses = "".join(f"\tbump(&m{number});\n" for number in range(40))
    return lab.compiled(
        f"{HEAD}{maps}\nstatic __always_inline void bump(void *map)\n{{\n\t__u32 key = 0;\n"
        "\t__u64 *found = bpf_map_lookup_elem(map, &key);\n\tif (found) __sync_fetch_and_add(found, 1);\n}\n"
        f'SEC("xdp") int {name}(struct xdp_md *ctx)\n{{\n\t__sync_fetch_and_add(&entered, 1);\n{uses}'
        '\treturn XDP_PASS;\n}\nchar _license[] SEC("license") = "GPL";\n',
        name,
    )


def test_a_chain_of_several_programs_holds_together(lab: Lab) -> None:
    lab("attach", "xdp", "dut0", many_maps(lab, "a"))
    assert pins() == []
    lab("attach", "xdp", "dut0", many_maps(lab, "b"))
    assert len(pins()) == 1
    udp(lab.wire.peer, number=5)
    before = pins()
    lab("chain", "set", "dut0", "b", "--priority", "10")
    assert len(pins()) == 1
    assert pins() != before
    udp(lab.wire.peer, number=5)
    assert (lab.get("dut0", "a.entered"), lab.get("dut0", "b.entered")) == (10, 10)
    lab("detach", "xdp", "dut0", "b")
    assert pins() == []


def test_no_packet_is_lost_while_they_change(lab: Lab) -> None:
    """Packets that are in the old chain's first program still find its second one."""
    lab("attach", "xdp", "dut0", many_maps(lab, "a"))
    lab("attach", "xdp", "dut0", many_maps(lab, "b"))
    with flood(lab.wire.peer, frame(lab.wire.peer)) as traffic:
        for number in range(10):
            lab("chain", "set", "dut0", "b", "--priority", 40 + number % 2 * 20)
    assert traffic.sent
    assert lab.get("dut0", "a.entered") == lab.get("dut0", "b.entered") == traffic.sent


# --- what is no tail call ---

BAD = {
    "jumps[4]=one": (3, "map jumps has 4 entries; index 4 is behind its end"),
    "jumps[1]=ones": (3, "holds no program ones; did you mean one?"),
    "jump[1]=one": (3, "made.o has no map jump; did you mean jumps?"),
    ".bss[1]=one": (3, "map .bss of made.o is no prog array"),
    "jumps[1]=classify": (3, "classify (section tc) is not for xdp, as entry is"),
    "jumps[1]=wide": (3, "wide takes frames in several buffers (xdp.frags), entry does not"),
    "jumps[1]=onward": (3, "onward (section xdp/devmap) is not for xdp, as entry is"),
    "jumps[1]=entry": (3, "entry is the program that is attached; it would jump to itself"),
    "jumps[1]": (2, "is not MAP[INDEX]=PROGRAM"),
    "jumps[-1]=one": (2, "is not MAP[INDEX]=PROGRAM"),
}


@pytest.mark.parametrize("text", BAD)
def test_what_cannot_be(lab: Lab, text: str) -> None:
    code, words = BAD[text]
    path = lab.compiled(FILLED)
    done = lab("attach", "xdp", "dut0", path, "-n", "entry", "--tail-call", text, code=code)
    assert words in done.error
    assert not lab.hooks()
    assert pins() == []


def test_twice(lab: Lab) -> None:
    words = ("--tail-call", "jumps[1]=one", "--tail-call", "jumps[0x1]=two")
    done = lab("attach", "xdp", "dut0", lab.compiled(FILLED), "-n", "entry", *words, code=2)
    assert "jumps[1] is given twice" in done.error


def test_a_program_without_the_array(lab: Lab) -> None:
    words = ("-n", "plain", "--tail-call", "jumps[1]=one")
    done = lab("attach", "xdp", "dut0", lab.compiled(FILLED), *words, code=3)
    assert "plain uses no map jumps" in done.error


def test_the_option_wins_over_the_initialiser(lab: Lab) -> None:
    path = lab.compiled(INITIALISED)
    lab("attach", "xdp", "dut0", path, "-n", "entry", "--tail-call", "jumps[1]=two")
    udp(lab.wire.peer, number=2)
    assert lab.get("dut0", "hits") == [0, 0, 2, 0]


# --- shared arrays ---


def test_a_shared_array_is_extended(lab: Lab) -> None:
    attach(lab)
    path = lab.compiled(FILLED.replace("&jumps, 1)", "&jumps, 2)"), "other")
    words = ("-n", "entry", "--name", "b", "--share", "jumps=dut0/xdp/entry")
    done = lab("attach", "xdp", "dut0", path, *words, "--tail-call", "jumps[1]=two", code=7)
    assert "jumps[1]: the map is shared, and holds program" in done.error
    lab("attach", "xdp", "dut0", path, *words, "--tail-call", "jumps[2]=two")
    udp(lab.wire.peer, number=3)
    assert lab.get("dut0", "entry.hits") == [0, 3, 0, 0]
    assert lab.get("dut0", "b.hits") == [0, 0, 3, 0]
    assert lab.get("dut0", "b.fell") == 0


def test_a_shared_array_is_as_before_when_the_attach_fails(lab: Lab) -> None:
    attach(lab)
    words = ("-n", "entry", "--share", "jumps=dut0/xdp/entry", "--tail-call", "jumps[2]=two")
    lab("attach", "xdp", "dut0", lab.compiled(FILLED), *words, code=7)  # it runs there already
    with Map.by_id(jumps(lab)) as array:
        assert [int.from_bytes(key, "little") for key, value in array.entries() if value] == [1]


def test_initialisers_stay_away_from_a_shared_array(lab: Lab) -> None:
    attach(lab)
    path = lab.compiled(INITIALISED, "other")
    done = lab(
        "attach",
        "xdp",
        "dut0",
        path,
        "-n",
        "entry",
        "--name",
        "b",
        "--share",
        "jumps=dut0/xdp/entry",
    )
    assert "note: map jumps: what the object puts into it at the start stays away" in done.err
    udp(lab.wire.peer, number=2)
    assert lab.get("dut0", "entry.hits") == [0, 4, 0, 0]


def test_what_a_shared_array_does_not_take(lab: Lab) -> None:
    lab.wires(1)
    attach(lab)
    wide = FILLED.replace('SEC("xdp") int entry', 'SEC("xdp.frags") int entry')
    words = ("-n", "entry", "--share", "jumps=dut0/xdp/entry")
    done = lab("attach", "xdp", "dut1", lab.compiled(wide, "wide"), *words, code=3)
    assert "prog array jumps is for programs without xdp.frags; entry is with" in done.error
    tc = FILLED.replace(
        'SEC("xdp") int entry(struct xdp_md *ctx)', 'SEC("tc") int entry(struct __sk_buff *ctx)'
    )
    done = lab("attach", "tc", "dut1", lab.compiled(tc, "tc"), *words, code=3)
    assert "prog array jumps is for xdp programs; entry is of type sched_cls" in done.error


def test_a_mix_of_frags_would_lose_tail_calls(lab: Lab) -> None:
    wide = FILLED.replace('SEC("xdp")', 'SEC("xdp.frags")')
    words = ("-n", "entry", "--tail-call", "jumps[1]=one")
    lab("attach", "xdp", "dut0", lab.compiled(wide, "wide"), *words)
    done = lab("attach", "xdp", "dut0", lab.compiled(FILLED), "-n", "plain", code=5)
    assert (
        "member entry takes frames in several buffers (xdp.frags) and has tail calls" in done.error
    )
    udp(lab.wire.peer, number=2)
    assert counts(lab) == (2, 2, 0)
    lab("attach", "xdp", "dut0", lab.compiled(wide, "wide2"), "-n", "plain", "--name", "wide2")
    udp(lab.wire.peer, number=2)
    assert counts(lab) == (4, 4, 0)


# --- where no pin lasts ---


def test_inside_of_ip_netns_exec_it_is_said(lab: Lab) -> None:
    """There what is mounted ends with the shell; what is not said would be found out late."""
    name = f"netbpf-test-{os.getpid()}"
    target = Path("/run/netns", name)
    target.parent.mkdir(exist_ok=True)
    target.touch()
    subprocess.run(["mount", "--bind", lab.netns, target], check=True)
    try:
        done = subprocess.run(
            ["ip", "netns", "exec", name, sys.executable, "-m", "netbpf", "attach", "xdp", "dut0",
             str(lab.compiled(FILLED)), "-n", "entry", "--tail-call", "jumps[1]=one"],
            capture_output=True, text=True, check=False, cwd=Path(__file__).parents[2],
        )  # fmt: skip
    finally:
        subprocess.run(["umount", "-l", target], check=True)
        with contextlib.suppress(FileNotFoundError):
            target.unlink()
    assert done.returncode == 0, done.stderr
    assert "note: map jumps: no bpffs outlives this shell, so the kernel empties it" in done.stderr
    assert pins() == []
