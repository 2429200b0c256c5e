"""netbpf doctor IFACE: drivers, sizes, queues, other ends, and who is on the hooks."""

from collections.abc import Iterator
from typing import Any

import pytest

from netbpf.host import interface as checks
from netbpf.host.finding import Level
from netbpf.net.devices import Device
from netbpf.net.ethtool import Channels
from netbpf.net.netdev import RxMetadata, XdpFeature, XdpSupport
from tests.host.room import Room

pytestmark = pytest.mark.root
FOREIGN = (
    "bpftool prog load netbpf/_objects/xdp_drop.bpf.o /sys/fs/bpf/other type xdp && "
    "bpftool net attach xdpgeneric pinned /sys/fs/bpf/other dev eth0; rm /sys/fs/bpf/other"
)
# Moves far0 to the network namespace of a process, once it has one.
AWAY = """
unshare --net sleep infinity >/dev/null 2>&1 &
until [ $(readlink /proc/$!/ns/net) != $(readlink /proc/self/ns/net) ]; do sleep 0.02; done
ip link set far0 netns $!; echo $! >/run/away
"""


@pytest.fixture
def pair(room: Room) -> Iterator[Room]:
    """eth0 and its other end far0, both up, with two queues each to use."""
    room.sh("ip link add eth0 numtxqueues 2 numrxqueues 2 type veth peer name far0 numtxqueues 2 numrxqueues 2 &&"
            "ip link set eth0 up && ip link set far0 up && ethtool -K far0 gro on")  # fmt: skip
    yield room
    room.sh("ip link del eth0")


def cured(room: Room, broken: dict[str, Any]) -> None:
    assert broken["fix"], broken
    for command in broken["fix"]:
        room.sh(command)
    after = room.interface("eth0")[broken["check"]]
    assert after["level"] == "ok", after


def test_all_is_well(pair: Room) -> None:
    found = pair.interface("eth0")
    assert {one["level"] for one in found.values()} == {"ok"}
    assert found["native XDP"]["text"].startswith("driver veth: basic, redirect, ndo_xmit, rx_sg")
    assert found["channels"]["text"] == "2 of 2 to receive, 2 of 2 to send"
    assert found["programs"]["text"] == "none"


@pytest.mark.parametrize(
    ("breaking", "check", "words"),
    [
        ("ip link set eth0 down", "state of the link", "down"),
        ("ip link set far0 mtu 9000", "MTU", "9000 at the other end far0: more than the 3506"),
        ("ethtool -L eth0 rx 1", "channels", "fewer to receive on"),
        ("ethtool -L eth0 rx 1", "native XDP", "has none"),
        ("ethtool -K far0 gro off", "other end", "drops what XDP programs send"),
        (FOREIGN, "programs", "xdp (skb): xdp_drop"),
    ],
)  # fmt: skip
def test_a_state_that_is_not_ok_and_its_cure(
    pair: Room, breaking: str, check: str, words: str
) -> None:
    pair.sh(breaking)
    broken = pair.interface("eth0")[check]
    assert broken["level"] == "warning"
    assert words in broken["text"]
    cured(pair, broken)


def test_what_is_said_of_the_mtu_is_what_the_kernel_does(pair: Room) -> None:
    """3506 is taken, one more is not."""
    for size, code in ((3506, 0), (3507, 5)):
        pair.sh(f"ip link set far0 mtu {size}")
        assert (pair.interface("eth0")["MTU"]["level"] == "ok") is (code == 0)
        ended, _, _ = pair.ended("netbpf attach xdp eth0 builtin:xdp_drop --mode native")
        assert ended == code
        if not ended:
            pair.sh("netbpf detach xdp eth0")


def test_fewer_queues_at_the_other_end_where_there_are_no_more_here(room: Room) -> None:
    room.sh("ip link add eth0 numtxqueues 1 numrxqueues 1 type veth peer name far0 numtxqueues 2 numrxqueues 2; "
            "ethtool -L far0 tx 2")  # fmt: skip
    found = room.interface("eth0")["channels"]
    assert found["fix"] == ["ethtool -L far0 tx 1"]
    cured(room, found)
    room.sh("ip link del eth0")


def test_an_other_end_that_is_elsewhere(pair: Room) -> None:
    pair.sh(AWAY)
    found = pair.interface("eth0")
    assert "not to be seen from here" in found["MTU"]["text"]
    assert found["other end"]["fix"] == []
    assert "another network namespace" in found["other end"]["text"]
    # Its namespace ends a while after its process; the pair with it.
    pair.sh("kill $(cat /run/away); ip link del eth0; ip link add eth0 type veth peer name far0")


def test_programs_of_others_on_tc(pair: Room) -> None:
    pair.sh("tc qdisc add dev eth0 clsact && "
            "tc filter add dev eth0 ingress bpf da obj netbpf/_objects/tc_count.bpf.o sec tc")  # fmt: skip
    found = pair.interface("eth0")["programs"]
    assert (found["level"], found["fix"]) == ("ok", [])
    assert "tc/ingress (clsact): tc_count" in found["text"]
    assert "attached by somebody else" in found["text"]


def test_netbpfs_own_program(pair: Room) -> None:
    pair.sh("netbpf attach xdp eth0 builtin:xdp_count")
    found = pair.interface("eth0")["programs"]
    assert found["level"] == "ok"
    assert "attached by netbpf" in found["text"]


def test_a_driver_without_native_xdp(room: Room) -> None:
    room.sh("ip link add eth0 type bridge && ip link set eth0 up")
    found = room.interface("eth0")["native XDP"]
    assert (found["level"], found["text"]) == ("warning", "driver bridge has none")
    assert "--mode skb" in found["why"]
    room.sh("ip link del eth0")


def test_a_name_that_a_shell_would_take_apart(room: Room) -> None:
    room.sh("ip link add 'a;b' type veth peer name far1")
    [fix] = room.interface("a;b")["state of the link"]["fix"]
    assert fix == "ip link set dev 'a;b' up"
    room.sh(fix)
    room.sh("ip link del far1")


# --- drivers that are not here ---


def card(mtu: int = 1500) -> Device:
    return Device("eth0", 2, mtu, 1, "up", b"", "", 0, ())


def test_cards_that_join_packets() -> None:
    on = {"rx-lro": (True, False), "rx-gro-hw": (True, False), "rx-gro": (True, False)}
    found = checks.joined(card(), on)
    assert found.fix == ("ethtool -K eth0 lro off gro-hw off",)
    fixed = checks.joined(card(), {"rx-lro": (False, False), "rx-gro-hw": (True, True)})
    assert (fixed.level, fixed.fix) == (Level.WARNING, ())
    assert "host of a virtual machine" in fixed.why
    assert checks.joined(card(), {"rx-lro": (False, True)}).level is Level.OK


@pytest.mark.parametrize(
    ("mtu", "features", "level", "why"),
    [
        (1500, XdpFeature.BASIC, Level.OK, ""),
        (3000, XdpFeature.BASIC, Level.OK, ""),
        (9000, XdpFeature.BASIC, Level.WARNING, "--mode skb"),
        (9000, XdpFeature.BASIC | XdpFeature.RX_SG, Level.WARNING, "xdp.frags"),
        (9000, XdpFeature(0), Level.OK, ""),
    ],
)  # fmt: skip
def test_jumbo_frames_of_a_card(mtu: int, features: XdpFeature, level: Level, why: str) -> None:
    support = XdpSupport(features, RxMetadata(0), 0)
    found = checks.frame_size(None, card(mtu), support)  # type: ignore[arg-type]  # nobody is asked
    assert found.level is level
    assert why in found.why
    assert bool(found.fix) is (level is Level.WARNING)


def test_queues_of_a_virtual_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checks, "channels", lambda *_: Channels(0, 0, 8, 0, 0, 8))
    monkeypatch.setattr(checks, "driver", lambda *_: "virtio_net")
    monkeypatch.setattr("os.cpu_count", lambda: 2)
    [found] = checks.queues(None, card(), None)  # type: ignore[arg-type]
    assert (found.level, found.fix) == (Level.WARNING, ("ethtool -L eth0 combined 6",))
    monkeypatch.setattr(checks, "channels", lambda *_: Channels(0, 0, 8, 0, 0, 6))
    [found] = checks.queues(None, card(), None)  # type: ignore[arg-type]
    assert found.level is Level.OK
