"""``netbpf explain``: what each member of a hook does to a packet, and why, on a copy of which nothing gets out."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from netbpf import api
from netbpf.bpf.btf.kernel import kernel_btf
from netbpf.bpf.btf.types import Kind
from netbpf.cli.main import COMMANDS
from netbpf.constants import Hook
from netbpf.errors import NotAttachedError, NotManagedError, NotSupportedError, UsageError
from netbpf.packets import walk_copy
from netbpf.packets.walk_model import MemberWalk, WalkResult
from netns_fixtures.residue import Snapshot
from netns_fixtures.topology import Topology
from tests.cli.lab import Lab, run_cli
from tests.packets.captures import pcap
from tests.support.compiling import compile_c

SOURCE = """
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/ip.h>
#include <linux/udp.h>
#include <linux/pkt_cls.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>
#define MAP(name, kind, key_type, value_type, n) struct { __uint(type, BPF_MAP_TYPE_##kind); \\
    __uint(max_entries, n); __type(key, key_type); __type(value, value_type); } name SEC(".maps")
struct why { __u32 list; __u32 hits; };
struct headers { struct ethhdr eth; struct iphdr ip; struct udphdr udp; } __attribute__((packed));
MAP(blocked, HASH, __be32, struct why, 1024);
MAP(jumps, PROG_ARRAY, __u32, __u32, 4);
MAP(lengths, PERCPU_ARRAY, __u32, __u64, 4);
__u32 open_port = 53;
__u64 seen;

SEC("xdp") int counts(struct xdp_md *ctx)
{
    __u32 key = 1;
    __u64 *value = bpf_map_lookup_elem(&lengths, &key);
    if (value)
        *value += ctx->data_end - ctx->data;
    seen++;
    return XDP_PASS;
}
SEC("xdp") int blocklist(struct xdp_md *ctx)
{
    struct headers *h = (void *)(long)ctx->data;
    struct why *why;
    if ((void *)(h + 1) > (void *)(long)ctx->data_end)
        return XDP_PASS;
    why = bpf_map_lookup_elem(&blocked, &h->ip.saddr);
    if (!why)
        return XDP_PASS;
    why->hits++;
    return XDP_DROP; /* blocked */
}
SEC("xdp") int acl(struct xdp_md *ctx)
{
    struct headers *h = (void *)(long)ctx->data;
    if ((void *)(h + 1) > (void *)(long)ctx->data_end)
        return XDP_PASS;
    if (h->udp.dest == bpf_htons(open_port)) /* open */
        return XDP_PASS;
    return XDP_DROP;
}
SEC("xdp") int shortens(struct xdp_md *ctx)
{
    return bpf_xdp_adjust_head(ctx, 8) ? XDP_ABORTED : XDP_PASS;
}
SEC("xdp") int length(struct xdp_md *ctx)
{
    seen = ctx->data_end - ctx->data;
    return XDP_PASS;
}
SEC("xdp") int meta(struct xdp_md *ctx)
{
    __u32 *mark;
    if (bpf_xdp_adjust_meta(ctx, -4))
        return XDP_ABORTED;
    mark = (void *)(long)ctx->data_meta;
    if ((void *)(mark + 1) > (void *)(long)ctx->data)
        return XDP_ABORTED;
    *mark = 77;
    return XDP_PASS;
}
SEC("xdp") int reads(struct xdp_md *ctx)
{
    __u32 *mark = (void *)(long)ctx->data_meta;
    if ((void *)(mark + 1) > (void *)(long)ctx->data)
        return XDP_DROP;
    seen = *mark;
    return ctx->ingress_ifindex > 1 ? XDP_TX : XDP_DROP;
}
SEC("xdp") int target(struct xdp_md *ctx)
{
    seen = 5;
    return XDP_DROP; /* target */
}
SEC("xdp") int jumper(struct xdp_md *ctx)
{
    bpf_tail_call(ctx, &jumps, 0);
    bpf_tail_call(ctx, &jumps, 2);
    return XDP_PASS;
}
SEC("xdp.frags") int frags(struct xdp_md *ctx)
{
    seen = bpf_xdp_get_buff_len(ctx);
    return XDP_PASS;
}
SEC("tc") int marks(struct __sk_buff *skb)
{
    skb->mark = 9;
    return TC_ACT_UNSPEC;
}
SEC("tc") int shoots(struct __sk_buff *skb)
{
    if (skb->mark == 9 && skb->ifindex > 1) /* marked */
        return TC_ACT_SHOT;
    return TC_ACT_OK;
}
char _license[] SEC("license") = "GPL";
"""
LINES = SOURCE.split("\n")
Moved = Callable[[], list[object]]


def line(text: str) -> int:
    """The number of the line with this text."""
    [found] = [number for number, one in enumerate(LINES, 1) if text in one]
    return found


@pytest.fixture
def own_leaks() -> Iterator[None]:
    """This process keeps no descriptor, thread or child."""
    before = Snapshot.take(machine=False)
    yield
    assert not before.leaks()


@pytest.fixture
def lab(own_leaks: None, topology: Topology, tmp_path: Path) -> Iterator[Lab]:
    made = Lab(topology, tmp_path)
    (tmp_path / "made.o").write_bytes(compile_c(SOURCE))
    yield made
    made.clean_up()


def attach(lab: Lab, *names: str, kind: str = "xdp") -> None:
    for name in names:
        lab("attach", kind, "dut0", "made.o", "-n", name)


@pytest.fixture
def live(lab: Lab) -> Moved:
    """All that the live programs have counted."""

    def read() -> list[object]:
        found: list[object] = []
        for one in api.stats("dut0", netns=lab.netns, limit=None):
            found += [one.variables, one.maps]
            found += [(each.variables, each.maps) for each in one.members]
        chains = [one.packets for one in api.chain("dut0", netns=lab.netns)]
        return [*found, chains, lab.hooks("dut0")[0]["program"]["id"]]

    return read


def udp(port: int, source: str = "10.0.0.1", *, size: int = 42) -> bytes:
    """A UDP frame."""
    head = bytes.fromhex("020000000002020000000001 0800")
    ip = b"\x45\0" + (size - 14).to_bytes(2) + bytes(4) + b"\x40\x11\0\0"
    ip += bytes(map(int, source.split("."))) + b"\x0a\0\0\x02"
    return (head + ip + b"\x10\0" + port.to_bytes(2) + (size - 34).to_bytes(2)).ljust(size, b"\0")


def members(result: WalkResult, group: int = 0) -> dict[str, MemberWalk]:
    return {one.name: one for hook in result.groups[group].first.hooks for one in hook.members}


def test_five_members_and_why_one_drops(lab: Lab, live: Moved) -> None:
    attach(lab, "counts", "blocklist", "meta", "acl", "length")
    lab("set", "dut0", "blocked[0x0700000a]={list: 3, hits: 1}", "counts.seen=10", "open_port=99")
    before = live()
    result = api.walk("dut0", udp(80), netns=lab.netns)
    assert result.hooks == ((Hook.XDP, ("counts", "blocklist", "meta", "acl", "length")),)
    [group] = result.groups
    [hook] = group.first.hooks
    assert (group.packets, hook.verdict, hook.missed) == (1, "drop", ("length",))
    found = members(result)
    assert [(name, one.verdict, one.goes_on) for name, one in found.items()] == [
        ("counts", "pass", True), ("blocklist", "pass", True), ("meta", "pass", True), ("acl", "drop", False),
    ]  # fmt: skip
    # The copy begins with what the live maps and variables hold.
    counts = found["counts"]
    assert counts.run
    [variable] = counts.run.changes.variables
    assert (variable.name, variable.before, variable.after) == ("seen", 10, 11)
    [entry] = counts.run.changes.entries
    assert (entry.map, entry.key, entry.before, entry.after) == ("lengths", 1, 0, 42)
    [asked] = counts.touches
    assert asked[:6] == ("lengths", "percpu_array", "lookup", 1, "found", 0)
    [asked] = found["blocklist"].touches
    assert (asked.map, asked.key, asked.outcome) == ("blocked", 0x0A000001, "not found")
    assert asked.step
    assert asked.step.source.line == line("bpf_map_lookup_elem(&blocked")
    # On to the last branch, with what was compared there.
    acl = found["acl"]
    assert line("/* open */") in [step.source.line for step in acl.steps]
    last = acl.decisions[-1].compared
    assert last
    assert {last.left, last.right} == {80 << 8, 99 << 8}
    # Its verdict comes of the comparison, without an instruction of a line of its own.
    assert result.groups[0].first.sentence == (
        f"acl dropped it, because made.bpf.c:{line('/* open */')} {LINES[line('/* open */') - 1].strip()} "
        "(80 != 99 in host byte order)"
    )
    assert live() == before


def test_what_was_found_in_a_map(lab: Lab, live: Moved) -> None:
    attach(lab, "blocklist", "counts")
    lab("set", "dut0", f"blocked[{0x0A000007}]={{list: 3, hits: 41}}")
    before = live()
    result = api.walk("dut0", udp(53, "10.0.0.7"), netns=lab.netns)
    blocklist = members(result)["blocklist"]
    [asked] = blocklist.touches
    assert (asked.key, asked.outcome, asked.value) == (
        0x0A000007, "found", {"list": 3, "hits": 41},
    )  # fmt: skip
    assert blocklist.decisions[-1].asked == asked
    assert blocklist.run
    [entry] = blocklist.run.changes.entries
    assert entry.after == {"list": 3, "hits": 42}
    sentence = result.groups[0].first.sentence
    assert sentence == (
        f"blocklist dropped it, because made.bpf.c:{line('if (!why)')} if (!why) "
        f"(blocked has entry {0x0A000007} (10.0.0.7))"
    )
    assert live() == before


def test_later_members_see_what_earlier_ones_made(lab: Lab) -> None:
    attach(lab, "meta", "reads")
    found = members(api.walk("dut0", udp(80), netns=lab.netns))
    reads = found["reads"]
    assert reads.run
    # The metadata, and the interface that it is on.
    assert (reads.run.changes.variables[0].after, reads.verdict) == (77, "tx")
    lab("detach", "--all")
    attach(lab, "shortens", "length")
    found = members(api.walk("dut0", udp(80), netns=lab.netns))
    length = found["length"]
    assert length.run
    assert length.run.changes.variables[0].after == 34
    assert length.run.before == udp(80)[8:]


def test_a_packet_that_only_the_first_hook_can_be_asked_about(lab: Lab) -> None:
    attach(lab, "counts")
    attach(lab, "shoots", kind="tc")
    result = api.walk("dut0", udp(80)[:20], netns=lab.netns)
    found = members(result)
    assert found["counts"].verdict == "pass"
    assert found["shoots"].run is None
    assert "a packet of 20 bytes is too short" in found["shoots"].refused
    assert result.groups[0].first.verdict == ""
    text = lab("explain", "dut0", "--hex", udp(80)[:20].hex()).lines
    assert "  1. shoots: cannot be run: a packet of 20 bytes is too short" in "\n".join(text)
    assert text[-1].startswith("what shoots would do to it cannot be told: a packet of 20 bytes")
    assert lab("explain", "dut0", "--hex", udp(80)[:20].hex(), "--json").json["packets"] == 1


@pytest.mark.parametrize("several", [False, True])
def test_tail_calls_are_followed(lab: Lab, live: Moved, *, several: bool) -> None:
    lab("attach", "xdp", "dut0", "made.o", "-n", "jumper", "--tail-call", "jumps[2]=target")
    if several:
        attach(lab, "length")
    before = live()
    result = api.walk("dut0", udp(80), netns=lab.netns)
    jumper = members(result)["jumper"]
    assert [(one.key, one.outcome) for one in jumper.touches] == [
        (0, "not found"), (2, "went there"),
    ]  # fmt: skip
    assert jumper.steps[0].program == "jumper"
    assert jumper.steps[-1].program == "target"
    assert jumper.decided
    assert jumper.decided.source.line == line("/* target */")
    assert result.groups[0].first.sentence.startswith("jumper dropped it: made.bpf.c:")
    assert "in target:" in lab("explain", "dut0", "--hex", udp(80).hex()).out
    assert not result.notes
    assert live() == before


def test_frames_in_several_buffers(lab: Lab) -> None:
    lab.run("ip", "link", "set", "dut0", "mtu", "3400")
    attach(lab, "frags")
    big = udp(80, size=9000)
    result = api.walk("dut0", big, netns=lab.netns)
    found = members(result)
    assert not result.notes
    assert found["frags"].run
    assert found["frags"].run.changes.variables[0].after == 9000
    attach(lab, "length")
    [note] = api.walk("dut0", big, netns=lab.netns).notes
    assert note.startswith("xdp on dut0 takes no frames in several buffers")
    assert not api.walk("dut0", udp(80), netns=lab.netns).notes
    with pytest.raises(NotSupportedError, match="too long"):
        api.walk("dut0", udp(80) + bytes(80_000), netns=lab.netns)


def test_xdp_and_then_tc(lab: Lab, live: Moved) -> None:
    attach(lab, "counts")
    attach(lab, "marks", "shoots", kind="tc")
    before = live()
    result = api.walk("dut0", udp(80), netns=lab.netns)
    assert [one.hook for one in result.groups[0].first.hooks] == [Hook.XDP, Hook.TC_INGRESS]
    found = members(result)
    assert [(name, one.verdict) for name, one in found.items()] == [
        ("counts", "pass"), ("marks", "unspec"), ("shoots", "shot"),
    ]  # fmt: skip
    assert found["marks"].run
    assert found["marks"].run.context == {"mark": (0, 9)}
    sentence = result.groups[0].first.sentence
    assert sentence.startswith("shoots dropped it at tc/ingress, because made.bpf.c:")
    assert "/* marked */ (both are 9 and " in sentence
    assert live() == before
    only = lab("explain", "xdp", "dut0", "--hex", udp(80).hex(), "--json").json
    assert [one["hook"] for one in only["hooks"]] == ["xdp"]
    assert only["groups"][0]["verdict"] == "pass"
    # What XDP drops does not come to TC.
    attach(lab, "acl")
    result = api.walk("dut0", udp(80), netns=lab.netns)
    assert [one.hook for one in result.groups[0].first.hooks] == [Hook.XDP]


def test_the_way_out(lab: Lab) -> None:
    lab("attach", "tc", "dut0", "made.o", "-n", "shoots", "--egress", "--link")
    result = api.walk("dut0", udp(80), netns=lab.netns)
    assert result.hooks == ((Hook.TC_EGRESS, ("shoots",)),)
    assert result.groups[0].first.verdict == "ok"
    attach(lab, "counts")
    done = lab("explain", "tc", "dut0", "--egress", "--hex", udp(80).hex())
    assert done.lines[0] == "dut0 tc/egress: ok, 42 bytes"
    assert lab("explain", "dut0", "--hex", udp(80).hex()).lines[0] == "dut0 xdp: pass, 42 bytes"


def test_a_capture_in_groups(lab: Lab, live: Moved, tmp_path: Path) -> None:
    attach(lab, "counts", "blocklist", "acl")
    lab("set", "dut0", f"blocked[{0x0A000007}]={{list: 3, hits: 0}}")
    before = live()
    packets = [udp(53), udp(80), udp(53, "10.0.0.7"), udp(81), b"\0" * 8, udp(82), udp(53, size=64)]
    packets += [udp(53)[:36]]  # too short for the port to be looked at: another way to pass
    (tmp_path / "in.pcap").write_bytes(pcap(packets))
    told: list[tuple[int, int, int]] = []
    result = api.walk(
        "dut0", capture="in.pcap", netns=lab.netns, progress=lambda *given: told.append(given)
    )
    assert told[-1][2] == len(packets)
    assert [(one.packets, one.numbers, one.first.verdict) for one in result.groups] == [
        (3, (2, 4, 6), "drop"), (2, (1, 7), "pass"), (1, (3,), "drop"),
        (1, (8,), "pass"),
    ]  # fmt: skip
    assert result.packets == 7
    [(why, count)] = result.skipped.items()
    assert (count, "a packet of 8 bytes cannot be run" in why) == (1, True)
    # Variables go on from packet to packet.
    blocked = members(result, 2)
    assert blocked["counts"].run
    assert blocked["counts"].run.changes.variables[0].before == 2
    done = lab("explain", "dut0", "in.pcap")
    assert done.lines[0] == "dut0 xdp, 3 members: 7 packets, 4 ways"
    assert "  3 packets: drop" in done.lines
    assert "    #2, #4, #6; the first: 10.0.0.1:4096 > 10.0.0.2:80 ipv4/udp, 42 bytes" in done.lines
    assert not any("asked of maps" in one for one in done.lines)
    assert "asked of maps" in lab("explain", "dut0", "in.pcap", "-v").out
    # One of them, in full.
    done = lab("explain", "dut0", "in.pcap", "--frame", 3)
    assert done.lines[0] == "dut0 xdp: drop, 42 bytes, 2 of 3 members"
    assert done.lines[-1].startswith("blocklist dropped it")
    assert len(api.walk("dut0", capture="in.pcap", limit=2, netns=lab.netns).groups) == 2
    assert live() == before


def test_files_that_are_no_captures(lab: Lab, tmp_path: Path) -> None:
    attach(lab, "acl")
    (tmp_path / "digits").write_text(udp(80).hex())
    assert lab("explain", "dut0", "digits").lines[0] == "dut0 xdp: drop, 42 bytes"
    assert "cannot read absent" in lab("explain", "dut0", "absent", code=3).err
    assert "holds no packet number 2" in lab("explain", "dut0", "digits", "--frame", 2, code=2).err


def test_without_debug_information(lab: Lab, tmp_path: Path) -> None:
    source = SOURCE[: SOURCE.index("MAP(blocked")] + SOURCE[SOURCE.index("__u32 open_port") :]
    for name in ("counts", "blocklist", "jumper"):
        begin = source.index(f'SEC("xdp") int {name}(')
        source = source[:begin] + source[source.index("\n}\n", begin) + 3 :]
    (tmp_path / "bare.o").write_bytes(compile_c(source, debug=False))
    lab("attach", "xdp", "dut0", "bare.o", "-n", "acl")
    result = api.walk("dut0", udp(80), netns=lab.netns)
    acl = members(result)["acl"]
    assert (acl.steps, acl.decided) == ((), None)
    assert result.groups[0].first.sentence.startswith("acl dropped it, because")
    assert "20480 (0x5000) != 13568 (0x3500)" in result.groups[0].first.sentence
    assert "compiled without -g" in lab("explain", "dut0", "--hex", udp(80).hex()).out


def test_large_maps(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is not copied is said; so is what is not compared."""
    attach(lab, "blocklist")
    lab("set", "dut0", *(f"blocked[{number}]={{list: 1}}" for number in range(5)))
    monkeypatch.setattr(walk_copy, "MOST_COPIED", 3)
    monkeypatch.setattr("netbpf.packets.walk._COMPARED", 2)
    done = lab("explain", "dut0", "--hex", udp(80).hex())
    assert "map blocked is not whole in the copy: it has the first 3 entries" in done.err
    assert "not compared, because there is too much in it: blocked" in done.out


def test_an_interface_that_is_down(lab: Lab) -> None:
    attach(lab, "counts")
    lab.run("ip", "link", "set", "dut0", "down")
    result = api.walk("dut0", udp(80), netns=lab.netns)
    assert result.groups[0].first.verdict == "pass"
    lab.run("ip", "link", "set", "dut0", "up")


TRACKS = """
#include <linux/bpf.h>
#include <linux/pkt_cls.h>
#include <bpf/bpf_helpers.h>
struct bpf_ct_opts { __s32 netns_id, error; __u8 l4proto, dir; __u16 zone; __u8 zone_dir, reserved[3]; };
struct nf_conn;
struct nf_conn___init;
struct nf_conn___init *bpf_skb_ct_alloc(struct __sk_buff *, struct bpf_sock_tuple *, __u32, struct bpf_ct_opts *,
    __u32) __ksym;
struct nf_conn *bpf_skb_ct_lookup(struct __sk_buff *, struct bpf_sock_tuple *, __u32, struct bpf_ct_opts *, __u32)
    __ksym;
struct nf_conn *bpf_ct_insert_entry(struct nf_conn___init *) __ksym;
void bpf_ct_set_timeout(struct nf_conn___init *, __u32) __ksym;
void bpf_ct_release(struct nf_conn *) __ksym;
SEC("tc") int tracks(struct __sk_buff *skb)
{
    struct bpf_ct_opts opts = {.netns_id = -1, .l4proto = 17};
    struct bpf_sock_tuple to = {.ipv4 = {.saddr = 1, .daddr = 2, .sport = 3, .dport = 4}};
    struct nf_conn___init *made;
    struct nf_conn *found = bpf_skb_ct_lookup(skb, &to, sizeof(to.ipv4), &opts, sizeof(opts));
    if (found) {
        bpf_ct_release(found);
        return TC_ACT_SHOT;
    }
    made = bpf_skb_ct_alloc(skb, &to, sizeof(to.ipv4), &opts, sizeof(opts));
    if (!made)
        return TC_ACT_STOLEN;
    bpf_ct_set_timeout(made, 3600 * 1000);
    found = bpf_ct_insert_entry(made);
    if (found)
        bpf_ct_release(found);
    return TC_ACT_OK;
}
char _license[] SEC("license") = "GPL";
"""


def test_what_acts_outside_is_named(lab: Lab) -> None:
    """A copy that adds to connection tracking does so in earnest: the next one finds it. A note says so."""
    if not kernel_btf().find("bpf_ct_insert_entry", Kind.FUNC):
        pytest.skip("this kernel has connection tracking in a module, or none")
    lab("attach", "tc", "dut0", lab.compiled(TRACKS, "tracks"))
    for verdict in ("ok", "shot"):
        result = api.walk("dut0", udp(80), netns=lab.netns)
        assert result.groups[0].first.verdict == verdict
        [note] = result.notes
        assert note.startswith("bpf_ct_insert_entry of tracks is carried out in earnest")
    assert "bpf_ct_insert_entry of tracks" in lab("explain", "dut0", "--hex", udp(80).hex()).err


def test_what_others_attached(lab: Lab, tmp_path: Path) -> None:
    lab.run("ip", "link", "set", "dut0", "xdp", "obj", tmp_path / "made.o", "program", "counts")
    with pytest.raises(NotManagedError, match=r"counts \(program \d+, xdp\) on dut0 was not"):
        api.walk("dut0", udp(80), netns=lab.netns)
    assert lab("explain", "dut0", "--hex", udp(80).hex(), code=9).err
    attach(lab, "shoots", kind="tc")
    result = api.walk("dut0", udp(80), netns=lab.netns)
    assert [hook for hook, _ in result.hooks] == [Hook.TC_INGRESS]
    assert any("xdp also runs counts (program" in note for note in result.notes)
    lab.run("ip", "link", "set", "dut0", "xdp", "off")


def test_errors(lab: Lab) -> None:
    with pytest.raises(NotAttachedError, match="no XDP or TC program on dut0"):
        api.walk("dut0", udp(80), netns=lab.netns)
    attach(lab, "acl")
    with pytest.raises(UsageError, match="either a packet or a capture"):
        api.walk("dut0", netns=lab.netns)
    with pytest.raises(UsageError, match="a packet of 8 bytes cannot be run"):
        api.walk("dut0", bytes(8), netns=lab.netns)
    done = lab("explain", "dut0", "--packet", "IP(dest='10.0.0.1')", code=2)
    assert "^^^^" in done.err
    for words, said in (
        ((), "name the interface"), (("dut0",), "no packet: give"), (("dut0", "a", "b"), "too many arguments: b"),
        (("dut0", "a", "--hex", "00"), "no two of them"), (("dut0", "--hex", "00", "--frame", "1"), "for captures"),
        (("xdp", "dut0", "--egress", "--hex", "00"), "--egress is for tc"),
    ):  # fmt: skip
        done = run_cli("explain", *words)
        assert (done.code, said in done.err) == (2, True), done.err
    assert "explain" in COMMANDS
