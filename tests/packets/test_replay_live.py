"""``netbpf replay --on``: a copy of what runs on an interface, of which nothing moves."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from netbpf import api
from netbpf.errors import NotAttachedError, NotManagedError, UsageError
from netbpf.packets.replay_model import Change
from netns_fixtures.residue import Snapshot
from netns_fixtures.topology import Topology
from tests.cli.lab import Lab
from tests.packets.captures import pcap
from tests.packets.test_replay import FILTER, FRAMES
from tests.support.compiling import compile_c

COUNT = """
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
struct {
    __uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
    __uint(max_entries, 2);
    __type(key, __u32);
    __type(value, __u64);
} lengths SEC(".maps");
SEC("xdp") int count(struct xdp_md *ctx)
{
    __u32 key = ctx->data_end - ctx->data > 60;
    __u64 *value = bpf_map_lookup_elem(&lengths, &key);
    if (value)
        ++*value;
    return XDP_PASS;
}
"""


@pytest.fixture
def own_leaks() -> Iterator[None]:
    """This process keeps no descriptor, thread or child."""
    before = Snapshot.take(machine=False)
    yield
    assert not before.leaks()


@pytest.fixture
def lab(own_leaks: None, topology: Topology, tmp_path: Path) -> Iterator[Lab]:
    made = Lab(topology, tmp_path)
    (tmp_path / "filter.o").write_bytes(compile_c(FILTER))
    (tmp_path / "count.o").write_bytes(compile_c(COUNT))
    (tmp_path / "in.pcap").write_bytes(pcap(FRAMES))
    yield made
    made.clean_up()


Moved = Callable[[], list[object]]


@pytest.fixture
def live(lab: Lab) -> Moved:
    """What the live programs have counted."""

    def read() -> list[object]:
        return [(one.variables, one.maps) for one in api.stats("dut0", netns=lab.netns)]

    return read


def test_one_program_with_what_it_holds(lab: Lab, live: Moved, tmp_path: Path) -> None:
    lab("attach", "xdp", "dut0", "filter.o", "-n", "filter", "--set", "blocked=80")
    lab("set", "dut0", "packets=100", "ports[80]=7")
    before = live()
    for times in (1, 1000):  # one by one, and in batches
        (tmp_path / "in.pcap").write_bytes(pcap(FRAMES * times))
        result = api.replay(None, tmp_path / "in.pcap", on="dut0", netns=lab.netns)
        assert result.packets == 10 * times
        # Without an entry in the devmap, and with port 80 blocked as it is there.
        assert result.verdicts == {
            "aborted": times, "drop": 3 * times, "pass": 4 * times, "tx": times, "99": times,
        }  # fmt: skip
        assert result.variables["packets"] == Change(100, 100 + 10 * times)
        assert dict(result.maps["ports"].entries)[80] == Change(7, 7 + 3 * times)
        assert result.members == {}
    assert live() == before


def test_a_chain_shows_the_share_of_each_member(lab: Lab, live: Moved, tmp_path: Path) -> None:
    lab("attach", "xdp", "dut0", "filter.o", "-n", "filter", "--priority", 10)
    lab("attach", "xdp", "dut0", "count.o", "--priority", 20)
    lab("set", "dut0", "packets=5")
    before = live()
    done = lab("replay", "--on", "dut0", "in.pcap", "--json").json
    assert done["packets"] == 10
    assert done["verdicts"] == {"aborted": 1, "drop": 2, "pass": 5, "tx": 1, "99": 1}
    assert done["members"] == {
        "filter": {"packets": 10, "verdicts": {"aborted": 1, "drop": 2, "pass": 5, "tx": 1, "other": 1}},
        "count": {"packets": 5, "verdicts": {"pass": 5}},
    }  # fmt: skip
    assert done["variables"]["filter.packets"] == {"before": 5, "after": 15}
    assert done["maps"]["count.lengths"]["changed"] == 2
    text = lab("replay", "--on", "dut0", "in.pcap").lines
    assert ["count", "5", "50.0", "%", "pass", "5"] in [line.split() for line in text]
    assert live() == before
    assert api.chain("dut0", netns=lab.netns)[0].packets == {"filter": 0, "count": 0}


def test_tc(lab: Lab, tmp_path: Path) -> None:
    lab("attach", "tc", "dut0", "filter.o", "-n", "classify", "--egress")
    result = api.replay(None, tmp_path / "in.pcap", on="dut0", netns=lab.netns)
    assert result.verdicts == {"unspec": 9, "shot": 1}


def test_errors(lab: Lab, tmp_path: Path) -> None:
    capture = tmp_path / "in.pcap"
    with pytest.raises(NotAttachedError, match="no XDP or TC program on dut0"):
        api.replay(None, capture, on="dut0", netns=lab.netns)
    lab("attach", "xdp", "dut0", "count.o")
    lab("attach", "tc", "dut0", "filter.o", "-n", "classify")
    with pytest.raises(UsageError, match="several hooks of dut0: xdp, tc/ingress"):
        api.replay(None, capture, on="dut0", netns=lab.netns)
    assert api.replay(None, capture, on="dut0", hook="xdp", netns=lab.netns).packets == 10
    with pytest.raises(UsageError, match="as it is there"):
        api.replay(None, capture, on="dut0", hook="xdp", netns=lab.netns, settings=["a=1"])
    with pytest.raises(UsageError, match="either an object or"):
        api.replay("count.o", capture, on="dut0")
    with pytest.raises(UsageError, match="either an object or"):
        api.replay(None, capture)
    assert "expected OBJECT CAPTURE" in lab("replay", "in.pcap", code=2).err
    lab("detach", "--all")
    lab.run("ip", "link", "set", "dut0", "xdp", "obj", tmp_path / "count.o", "sec", "xdp")
    with pytest.raises(NotManagedError, match="was not attached by netbpf"):
        api.replay(None, capture, on="dut0", netns=lab.netns)
    lab.run("ip", "link", "set", "dut0", "xdp", "off")
