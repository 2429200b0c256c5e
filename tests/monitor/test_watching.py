"""Scopes, chains, floods, and what is missing: the library's side of monitor."""

import os
import time
from collections.abc import Callable, Mapping
from typing import NoReturn

import pytest

import netbpf
from netbpf._sys import capabilities
from netbpf._sys.capabilities import Capability
from netbpf.bpf.btf import kernel
from netbpf.bpf.btf.types import Btf
from netbpf.bpf.ids import link_ids, program_ids
from netbpf.errors import (
    InterfaceNotFoundError,
    NotSupportedError,
    PermissionDeniedError,
    UsageError,
)
from netbpf.listen import monitor_probes
from netbpf.listen.monitor import Monitor
from netbpf.listen.monitor_model import TRACEPOINTS, Count, Kind, Reading
from netbpf.listen.monitor_probes import Place, Probes, Scope
from tests.cli.lab import Lab, run_cli
from tests.monitor.traffic import PACKETS, attach, counted, quiet, send, until

# --- chains and names -----------------------------------------------------------------------------------------


def test_the_member_of_a_chain_is_told(lab: Lab, wrong: bytes) -> None:
    attach(lab, wrong)
    lab("attach", "xdp", "dut0", "builtin:xdp_count", "--priority", "10")
    with quiet(lab) as watching:
        send(lab.wire.peer, "a")
        found = counted(watching, Kind.EXCEPTION).happening
    assert found.program is not None
    assert (found.program.name, found.program.members) == ("netbpf_chain", ("wrong",))


def test_what_a_member_did_before_is_not_held_against_it(lab: Lab, wrong: bytes) -> None:
    """Both have aborted packets at some time; since watching began only one has."""
    attach(lab, wrong)
    source = """#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
int aborts = 1;
SEC("xdp") int first(void *ctx) { return aborts ? XDP_ABORTED : XDP_PASS; }
char _license[] SEC("license") = "GPL";"""
    lab("attach", "xdp", "dut0", lab.compiled(source, "first"), "--priority", "10")
    with quiet(lab) as watching:
        send(lab.wire.peer, "p")
        before = counted(watching, Kind.EXCEPTION).happening
    lab("set", "dut0", "aborts=0")
    with quiet(lab) as watching:
        send(lab.wire.peer, "a")
        after = counted(watching, Kind.EXCEPTION).happening
    assert before.program is not None
    assert before.program.members == ("first",)
    assert after.program is not None
    assert after.program.members == ("wrong",)


def test_a_program_that_came_while_watching(lab: Lab, wrong: bytes) -> None:
    """Its drops are seen too, though its interface had no program when watching began."""
    with Monitor(netns=lab.namespace) as watching:
        assert watching.interfaces == 0
        attach(lab, wrong)
        until(watching, lambda _: watching.interfaces == 1)
        send(lab.wire.peer, "d")
        found = counted(watching, Kind.DROP).happening
    assert found.program is not None
    assert found.program.name == "wrong"


# --- scopes ---------------------------------------------------------------------------------------------------


def test_interfaces_of_the_same_index_in_two_namespaces(lab: Lab, wrong: bytes) -> None:
    """dut0 and peer0 have one index, each in its own namespace; so have both programs of this test one name."""
    peer = lab.wire.peer
    assert peer.ifindex == lab.wire.dut.ifindex
    there = f"/proc/{os.getpid()}/fd/{peer.namespace.fileno()}"
    attach(lab, wrong)
    done = run_cli(
        "attach", "xdp", "peer0", lab.directory / "wrong.o", "-n", "wrong", "--netns", there
    )
    assert done.code == 0, done.err
    with Monitor(netns=lab.namespace) as here, Monitor(all_netns=True) as everywhere:
        send(lab.wire.dut, "v", 3)  # comes in on peer0
        send(peer, "v", 5)
        mine = counted(here, Kind.EXCEPTION, 5)
        both = (
            {
                one.happening.interface.name: (one.packets, one.happening.interface.netns)
                for one in until(everywhere, lambda r: _exceptions(r, places) >= 8).counts
                if one.happening.kind is Kind.EXCEPTION
                and one.happening.interface
                and one.happening.interface.netns in places
            }
            if (places := {lab.namespace.inode, peer.namespace.inode})
            else {}
        )
    assert mine.happening.interface is not None
    assert mine.happening.interface.name == "dut0"
    assert both == {"dut0": (5, lab.namespace.inode), "peer0": (3, peer.namespace.inode)}
    assert run_cli("detach", "xdp", "peer0", "--netns", there).code == 0


def _exceptions(reading: Reading, places: set[int]) -> int:
    return sum(
        one.packets
        for one in reading.counts
        if one.happening.kind is Kind.EXCEPTION
        and one.happening.interface
        and one.happening.interface.netns in places
    )


def test_one_interface_alone(lab: Lab, wrong: bytes) -> None:
    [other] = lab.wires(1)
    attach(lab, wrong)
    lab("attach", "xdp", "dut1", lab.directory / "wrong.o", "-n", "wrong")
    with Monitor("dut1", netns=lab.namespace) as watching:
        send(lab.wire.peer, "a")
        send(other.peer, "a", 4)
        counted(watching, Kind.EXCEPTION, 4)
        counted(watching, Kind.DROP, 4)
        last = watching.read()
    assert {one.happening.interface and one.happening.interface.name for one in last.counts} == {
        "dut1"
    }


def test_cpumaps_are_those_of_programs_in_the_namespace(lab: Lab, wrong: bytes) -> None:
    """The kernel names no interface; and what was detached may have packets there still."""
    attach(lab, wrong, "--redirect", "cpus[0]=64:refuse")
    with (
        Monitor(netns=lab.namespace) as here,
        Monitor(netns=lab.wire.peer.namespace) as there,
        Monitor(all_netns=True) as everywhere,
    ):
        send(lab.wire.peer, "c")
        found = counted(here, Kind.CPUMAP_PROGRAM).happening
        same = counted(everywhere, Kind.CPUMAP_PROGRAM, matching=of_map(found.map_id)).happening
        assert same.map_name == found.map_name == "cpus"
        kinds = {one.happening.kind for one in there.read().counts}
        assert not kinds & {Kind.CPUMAP_ENQUEUE, Kind.CPUMAP_KTHREAD, Kind.CPUMAP_PROGRAM}
        lab("detach", "dut0")
        assert [one.packets for one in here.read().counts if of_map(found.map_id)(one)] == [PACKETS]


def of_map(number: int) -> Callable[[Count], bool]:
    return lambda one: one.happening.map_id == number


def test_drops_of_interfaces_without_programs_only_when_asked(lab: Lab) -> None:
    with (
        Monitor(netns=lab.namespace) as quiet_one,
        Monitor(netns=lab.namespace, drops="all") as all_of_them,
        Monitor(netns=lab.namespace, drops="none") as none,
    ):
        send(lab.wire.peer, "p")
        counted(all_of_them, Kind.DROP)
        assert not quiet_one.read().counts
        assert not none.read().counts
        assert not none.missing


def test_an_interface_that_goes_and_comes_again(lab: Lab, wrong: bytes) -> None:
    attach(lab, wrong)
    with quiet(lab) as watching:
        send(lab.wire.peer, "a", 3)
        counted(watching, Kind.EXCEPTION, 3)
        lab.run("ip", "link", "delete", "dut0")
        assert watching.read().counts[0].packets == 3
        lab.run("ip", "link", "add", "dut0", "type", "veth", "peer", "name", "far0")
        lab.run(
            "sysctl",
            "-qw",
            "net.ipv6.conf.dut0.disable_ipv6=1",
            "net.ipv6.conf.far0.disable_ipv6=1",
        )
        lab.run("ip", "link", "set", "dut0", "up")
        lab.run("ip", "link", "set", "far0", "up")
        attach(lab, wrong)
        packet = bytes(12) + b"\x08\0" + bytes(28) + b"a" + bytes(20)
        # It is found again at one of the next looks.
        lab.namespace.run(_keep_sending, packet, watching)


def _keep_sending(packet: bytes, watching: Monitor) -> None:
    import socket

    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as raw:
        raw.bind(("far0", 0))

        def again(reading: Reading) -> bool:
            raw.send(packet)
            seen = [one for one in reading.counts if one.happening.kind is Kind.EXCEPTION]
            return len(seen) == 2

        until(watching, again)


def test_what_is_not_there() -> None:
    with pytest.raises(InterfaceNotFoundError, match="no interface 'nope9'"):
        netbpf.monitor("nope9")
    with pytest.raises(UsageError, match="contradict"):
        netbpf.monitor("lo", all_netns=True)


# --- floods ---------------------------------------------------------------------------------------------------


def test_a_flood_is_one_line_and_exact(lab: Lab, wrong: bytes) -> None:
    """Half a million failed redirects by BPF_PROG_TEST_RUN's live frames, at some ten million a second."""
    from netbpf._sys.bpf import fd_by_id, prog_test_run

    number = 500_000
    attach(lab, wrong)
    packet = bytes(12) + b"\x08\0" + bytes(28) + b"i" + bytes(20)
    [hook] = lab.hooks("dut0")
    with Monitor(all_netns=True) as watching, fd_by_id("PROG", hook["program"]["id"]) as program:
        prog_test_run(program.fileno(), packet, repeat=number, flags=2, batch_size=64)
        [found] = [
            one
            for one in watching.read().counts
            if one.happening.program and one.happening.program.id == hook["program"]["id"]
        ]
        lost = dict(watching.read().lost.nested).get("xdp_redirect_err", 0)
    assert found.packets + lost == number
    assert (found.happening.example, found.happening.alike) == (4711, True)


def test_what_senders_choose_makes_no_lines(lab: Lab) -> None:
    """Verdicts, indexes and interfaces that do not exist, by the packet: one line each, with an example."""
    source = """#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
SEC("xdp") int chosen(struct xdp_md *ctx)
{
	unsigned char *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;

	if (data + 46 > end)
		return XDP_PASS;
	return data[44] ? bpf_redirect(1000 + data[45], 0) : 100 + data[45];
}
char _license[] SEC("license") = "GPL";"""
    lab("attach", "xdp", "dut0", lab.compiled(source, "chosen"))
    peer = lab.wire.peer
    with quiet(lab) as watching:
        head = bytes(12) + b"\x08\0" + bytes(28)
        peer.send(
            [head + bytes([0, 0, way, at]) + bytes(20) for way in (0, 1) for at in range(200)]
        )
        verdicts = counted(watching, Kind.EXCEPTION, 200).happening
        indexes = counted(watching, Kind.REDIRECT, 200).happening
    assert (verdicts.verdict, verdicts.alike) == ("299", False)
    assert "the program returned numbers, no verdict of XDP" in verdicts.cause
    assert (indexes.example, indexes.alike) == (1199, False)
    assert "interface indexes such as 1199" in indexes.cause


def test_what_has_no_room_is_counted(lab: Lab, wrong: bytes) -> None:
    """With the map of tallies full, events are counted by tracepoint."""
    attach(lab, wrong)
    with quiet(lab) as watching:
        tallies = watching._probes._maps["tallies"]
        for number in range(tallies.info.max_entries):
            tallies.update(b"\xff" * 32 + number.to_bytes(8, "little"), bytes(tallies.entry_size))
        send(lab.wire.peer, "v")
        probes = watching._probes
        until_crowded(probes, {"xdp_exception": PACKETS, "kfree_skb": PACKETS})


def until_crowded(probes: Probes, wanted: Mapping[str, int]) -> None:
    patience = time.monotonic() + 20
    while probes.crowded() != wanted:
        assert time.monotonic() < patience, probes.crowded()


# --- the kernel -----------------------------------------------------------------------------------------------


def test_nothing_stays(lab: Lab) -> None:
    before = set(link_ids())
    with quiet(lab) as watching:
        mine = {loaded.program.info.id for loaded in watching._probes._loaded.values()}
        assert len(mine) == len(TRACEPOINTS)
        assert len(set(link_ids()) - before) >= len(TRACEPOINTS)
    patience = time.monotonic() + 20
    while mine & set(program_ids()):  # after an RCU grace period
        assert time.monotonic() < patience


def test_a_capability_that_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    def without() -> int:
        return 0xFFFFFFFF & ~(1 << Capability.SYS_ADMIN)

    monkeypatch.setattr(capabilities, "effective", without)
    with pytest.raises(
        PermissionDeniedError, match="watch tracepoints: CAP_BPF and CAP_PERFMON are missing"
    ):
        Probes(Scope())


def test_a_kernel_without_types(monkeypatch: pytest.MonkeyPatch) -> None:
    def none() -> NoReturn:
        raise NotSupportedError("this kernel does not tell its types", hint="other")

    monkeypatch.setattr(monitor_probes, "kernel_btf", none)
    with pytest.raises(NotSupportedError) as caught:
        Probes(Scope())
    assert caught.value.hint is not None
    assert "CONFIG_DEBUG_INFO_BTF" in caught.value.hint


def test_a_kernel_with_other_tracepoints(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that is not there, and one with other arguments, are named; the others work."""
    known = dict(monitor_probes._ARGUMENTS)
    known["xdp_bulk_tx"] += ", int"
    known["xdp_cpumap_enqueue"] = known["xdp_cpumap_enqueue"].replace("int", "bpf_map*", 1)
    monkeypatch.setattr(monitor_probes, "_ARGUMENTS", known)
    with Monitor("dut0", netns=lab.namespace) as watching:
        assert watching.missing == ("xdp_bulk_tx", "xdp_cpumap_enqueue")
    with Probes(Scope(), [Place(1, 1)]) as probes:
        assert probes.missing == ("xdp_bulk_tx", "xdp_cpumap_enqueue")
        assert not probes.crowded()


def test_a_kernel_with_none_of_them(monkeypatch: pytest.MonkeyPatch) -> None:
    def nothing(_: Btf) -> dict[str, str]:
        return {}

    monkeypatch.setattr(monitor_probes, "_available", nothing)
    with pytest.raises(NotSupportedError, match="none of the tracepoints"):
        Probes(Scope())
    assert kernel.kernel_btf().find("btf_trace_xdp_exception")
