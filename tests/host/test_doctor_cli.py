"""The command: exit codes, JSON, interfaces elsewhere and interfaces that are not."""

import json

import pytest

from netbpf.net.netns import Namespace
from tests.cli.lab import run_cli
from tests.host.room import Room

pytestmark = pytest.mark.root


def test_a_problem_ends_with_5_and_a_warning_with_0(room: Room) -> None:
    room.sh("ip link add eth0 type bridge")
    code, out, err = room.ended("netbpf doctor eth0")
    assert (code, err) == (0, "")
    assert "warning  state of the link" in out
    assert "fix: ip link set dev eth0 up" in out
    assert out.splitlines()[-1].startswith("no problems, ")
    room.sh("mount -o remount,ro /sys/fs/bpf")
    code, out, err = room.ended("netbpf doctor eth0")
    assert (code, err) == (5, "")
    assert out.splitlines()[-1].startswith("1 problem, ")
    assert "bpffs" in out
    room.sh("mount -o remount,rw /sys/fs/bpf; ip link del eth0")


def test_json_counts_what_it_lists(room: Room) -> None:
    found = json.loads(room.sh("netbpf doctor --json"))
    levels = [one["level"] for one in found["findings"]]
    assert found["schema"] == "netbpf.doctor/1"
    assert (levels.count("ok"), levels.count("warning"), levels.count("problem")) == (
        found["ok"], found["warnings"], found["problems"],
    )  # fmt: skip


def test_an_interface_that_is_not_there() -> None:
    done = run_cli("doctor", "nonesuch0")
    assert (done.code, done.out) == (6, "")
    assert "no interface 'nonesuch0'" in done.err


def test_an_interface_of_another_namespace() -> None:
    with Namespace.create() as namespace:
        import os

        done = run_cli(
            "doctor", "lo", "--netns", f"/proc/{os.getpid()}/fd/{namespace.fileno()}", "--json"
        )
    found = {one["check"]: one for one in done.json["findings"] if one["section"] == "interface lo"}
    assert found["state of the link"]["text"] == "down"
    assert found["native XDP"]["text"] == "driver unknown has none"


@pytest.mark.parametrize("form", ["other", "/run/netns/other", "pid:$(cat /run/inside)"])
def test_what_is_printed_for_another_namespace_acts_there(room: Room, form: str) -> None:
    room.sh("mkdir -p /run/netns && mount -t tmpfs tmpfs /run/netns && ip netns add other && "
            "(ip netns exec other sleep infinity >/dev/null 2>&1 & echo $! >/run/inside) && "
            "until [ $(readlink /proc/$(cat /run/inside)/ns/net) != $(readlink /proc/self/ns/net) ]; "
            "do sleep 0.02; done && "
            "ip -n other link add eth7 type veth peer name far7 && ip -n other link set far7 up && "
            "ip netns exec other sh -c 'mount -t bpf bpf /sys/fs/bpf; "
            "bpftool prog load netbpf/_objects/xdp_drop.bpf.o /sys/fs/bpf/it type xdp; "
            "bpftool net attach xdpgeneric pinned /sys/fs/bpf/it dev eth7'")  # fmt: skip
    found = json.loads(room.sh(f"netbpf doctor eth7 --netns {form} --json"))["findings"]
    broken = [one for one in found if one["section"] == "interface eth7" and one["level"] != "ok"]
    assert {one["check"] for one in broken} == {"state of the link", "other end", "programs"}
    for one in broken:
        for fix in one["fix"]:
            room.sh(fix)
    found = json.loads(room.sh(f"netbpf doctor eth7 --netns {form} --json"))["findings"]
    room.sh("kill $(cat /run/inside); ip netns del other; umount /run/netns")
    assert {one["level"] for one in found if one["section"] == "interface eth7"} == {"ok"}


def test_looking_changes_nothing(room: Room) -> None:
    """Neither programs nor maps nor pins stay, and no state directory is made."""
    before = room.sh("ls -AlR /sys/fs/bpf /run/netbpf; ip -d link; tc qdisc")
    room.sh("netbpf doctor lo; netbpf features --json >/dev/null")
    assert room.sh("ls -AlR /sys/fs/bpf /run/netbpf; ip -d link; tc qdisc") == before
    room.sh("NETBPF_STATE_DIR=/run/nothing netbpf doctor && ! [ -e /run/nothing ]")


# A reader such as head(1) may end before or after all has been written to the pipe.
UNREAD = """python3 -c "
import os
reading, writing = os.pipe()
os.close(reading)
os.dup2(writing, 1)
os.execlp('netbpf', 'netbpf', 'features', '--helpers', 'all')
" """


def test_an_output_that_nobody_reads(room: Room) -> None:
    code, _, err = room.ended(UNREAD)
    assert (code, err) == (141, "")
