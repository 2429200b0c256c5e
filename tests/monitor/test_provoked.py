"""Every kind of thing that goes wrong, provoked by real packets, with its interface, program, cause and advice."""

import errno
import socket

import pytest

from netbpf._sys.bpf import fd_by_id, prog_test_run
from netbpf.listen.monitor import Monitor
from netbpf.listen.monitor_model import Count, Kind
from tests.cli.lab import Lab, frame
from tests.monitor.traffic import PACKETS, attach, counted, passing, quiet, send, until

LIVE_FRAMES = 1 << 1  # BPF_F_TEST_XDP_LIVE_FRAMES: verdicts are done
BOTH = pytest.mark.parametrize("mode", ["native", "skb"])


def program_of(lab: Lab) -> int:
    [hook] = lab.hooks("dut0")
    number = hook["program"]["id"]
    assert isinstance(number, int)
    return number


@BOTH
def test_aborted(lab: Lab, wrong: bytes, mode: str) -> None:
    attach(lab, wrong, "--mode", mode)
    with quiet(lab) as watching:
        send(lab.wire.peer, "a")
        happening = counted(watching, Kind.EXCEPTION).happening
    assert happening.interface is not None
    assert (happening.interface.name, happening.interface.index) == ("dut0", lab.wire.dut.ifindex)
    assert happening.interface.netns == lab.namespace.inode
    assert happening.program is not None
    assert (happening.program.name, happening.program.id) == ("wrong", program_of(lab))
    assert happening.program.certain
    assert (happening.verdict, happening.hook, happening.errno) == ("XDP_ABORTED", "xdp", 0)
    assert "XDP_ABORTED" in happening.cause


def test_aborted_without_maps_to_redirect_by(lab: Lab, wrong: bytes) -> None:
    """Where the program cannot have got it from bpf_redirect_map(), the advice does not say so."""
    source = '#include <linux/bpf.h>\n#include <bpf/bpf_helpers.h>\nSEC("xdp") int no(void *c) { return XDP_ABORTED; }'
    plain = lab.compiled(source + '\nchar _license[] SEC("license") = "GPL";', "plain")
    lab("attach", "xdp", "dut0", plain)
    with quiet(lab) as watching:
        send(lab.wire.peer, "p")
        alone = counted(watching, Kind.EXCEPTION).happening
    lab("detach", "xdp", "dut0")
    attach(lab, wrong)
    with quiet(lab) as watching:
        send(lab.wire.peer, "m")
        other = counted(watching, Kind.EXCEPTION).happening
    assert "bpf_redirect_map" not in alone.advice
    assert "bpf_redirect_map() gives it where the map has no such entry" in other.advice


@BOTH
def test_an_unknown_verdict(lab: Lab, wrong: bytes, mode: str) -> None:
    attach(lab, wrong, "--mode", mode)
    with quiet(lab) as watching:
        send(lab.wire.peer, "v")
        happening = counted(watching, Kind.EXCEPTION).happening
    assert happening.verdict == "77"
    assert "77, no verdict of XDP" in happening.cause
    assert "enum xdp_action" in happening.advice


@BOTH
@pytest.mark.parametrize(
    ("what", "error", "words"),
    [
        ("n", "EBADRQC", "without having said where to"),
        ("i", "EINVAL", "interface index 4711, and there is none in the network namespace of dut0"),
    ],
)
def test_a_redirect_to_nowhere(
    lab: Lab, wrong: bytes, mode: str, what: str, error: str, words: str
) -> None:
    attach(lab, wrong, "--mode", mode)
    with quiet(lab) as watching:
        send(lab.wire.peer, what)
        happening = counted(watching, Kind.REDIRECT).happening
    assert (happening.errno, happening.target) == (getattr(errno, error), None)
    assert words in happening.cause
    assert happening.program is not None
    assert happening.program.id == program_of(lab)


@pytest.mark.parametrize(("what", "through"), [("r", ""), ("x", "tx")])
def test_a_redirect_to_a_veth_whose_other_end_has_no_program(
    lab: Lab, wrong: bytes, what: str, through: str
) -> None:
    [other] = lab.wires(1)
    attach(lab, wrong, "--set", f"target={other.dut.ifindex}", "--redirect", "tx[0]=dut1")
    with quiet(lab) as watching:
        send(lab.wire.peer, what)
        happening = counted(watching, Kind.REDIRECT).happening
        assert happening.target is not None
        assert (happening.target.name, happening.target.index) == ("dut1", other.dut.ifindex)
        assert (happening.errno, happening.map_name) == (errno.EOPNOTSUPP, through)
        assert "veth does only while its other end has a native XDP program" in happening.cause
        # The advice is right: done as it says, packets arrive, and nothing more is counted.
        command = happening.advice.partition(": netbpf ")[2].split()
        assert command == ["attach", "xdp", "PEER", "--netns", "NS", "builtin:xdp_count"]
        with passing(other.peer):
            send(lab.wire.peer, what)
            send(lab.wire.peer, "n")  # comes after them
            counted(watching, Kind.REDIRECT, matching=lambda c: c.happening.errno == errno.EBADRQC)
            counted(
                watching, Kind.REDIRECT, matching=lambda c: c.happening.errno == errno.EOPNOTSUPP
            )


def test_a_redirect_to_an_interface_that_is_down_or_too_small(lab: Lab, wrong: bytes) -> None:
    [other] = lab.wires(1)
    attach(lab, wrong, "--redirect", "tx[0]=dut1")
    with passing(other.peer), quiet(lab) as watching:
        lab.run("ip", "link", "set", "dut1", "mtu", "80")
        send(lab.wire.peer, "x")
        long = counted(watching, Kind.REDIRECT).happening
        lab.run("ip", "link", "set", "dut1", "down")
        send(lab.wire.peer, "x")
        down = counted(
            watching, Kind.REDIRECT, matching=lambda c: c.happening.errno == errno.ENETDOWN
        ).happening
    assert long.errno == errno.EMSGSIZE
    assert "longer than the MTU of dut1 (80 bytes)" in long.cause
    assert "down" in down.cause
    assert down.advice == "ip link set dut1 up"


def test_sending_back_where_nobody_takes_it(lab: Lab, wrong: bytes) -> None:
    """XDP_TX of a veth whose other end has no program; the kernel does not name the program of this one."""
    attach(lab, wrong)
    with quiet(lab) as watching:
        send(lab.wire.peer, "t")
        happening = counted(watching, Kind.BULK_TX).happening
    assert happening.errno == errno.ENXIO
    assert "the other end of a veth has to be up and have a native XDP program" in happening.cause
    assert happening.program is not None
    assert (happening.program.name, happening.program.certain) == ("wrong", False)


def test_a_driver_that_does_not_take_what_is_redirected_to_it(lab: Lab, wrong: bytes) -> None:
    """The other end of dut1 has a smaller MTU, which nothing looks at before the driver does (veth_xdp_xmit)."""
    [other] = lab.wires(1)
    attach(lab, wrong, "--redirect", "tx[0]=dut1")
    with passing(other.peer):
        lab.run("ip", "link", "set", other.peer.ifname, "mtu", "80", at=other.peer)
        with quiet(lab) as watching:
            send(lab.wire.peer, "x")
            happening = counted(watching, Kind.DEVMAP_XMIT).happening
    assert happening.errno == 0
    assert happening.target is not None
    assert happening.target.name == "dut1"
    assert happening.program is not None
    assert (happening.program.name, happening.program.certain) == ("wrong", False)
    assert "dut1 did not take them all" in happening.cause
    assert happening.advice == "ethtool -S dut1 counts what the driver dropped"


def test_one_event_of_many_packets(lab: Lab, wrong: bytes) -> None:
    """Redirected in batches, up to 16 packets are one event of the driver; each of them is counted."""
    [other] = lab.wires(1)
    attach(lab, wrong, "--redirect", "tx[0]=dut1")
    [hook] = lab.hooks("dut0")
    frames = frame(lab.wire.peer, mark=ord("x") << 24, size=200)
    with (
        passing(other.peer),
        Monitor(all_netns=True) as watching,
        fd_by_id("PROG", hook["program"]["id"]) as program,
    ):
        lab.run("ip", "link", "set", other.peer.ifname, "mtu", "80", at=other.peer)
        prog_test_run(program.fileno(), frames, repeat=64, flags=LIVE_FRAMES, batch_size=64)
        found = counted(watching, Kind.DEVMAP_XMIT, 64, lambda c: _goes_to(c, lab))
    assert found.events < 64


def _goes_to(one: Count, lab: Lab) -> bool:
    target = one.happening.target
    return target is not None and (target.netns, target.name) == (lab.namespace.inode, "dut1")


def test_a_program_in_a_cpumap(lab: Lab, wrong: bytes) -> None:
    attach(lab, wrong, "--redirect", "cpus[0]=64:refuse")
    with quiet(lab) as watching:
        send(lab.wire.peer, "c")
        happening = counted(watching, Kind.CPUMAP_PROGRAM).happening
    assert (happening.interface, happening.map_name, happening.cpu) == (None, "cpus", 0)
    assert happening.program is not None
    assert (happening.program.name, happening.program.certain) == ("wrong", False)
    assert "dropped them" in happening.cause


def test_a_queue_of_a_cpumap_that_is_full(lab: Lab, wrong: bytes) -> None:
    """What does not fit is counted, and what does reaches the program there: together they are all."""
    number = 640
    attach(lab, wrong, "--redirect", "cpus[0]=2:refuse")
    [hook] = lab.hooks("dut0")
    packet = frame(lab.wire.peer, mark=ord("c") << 24)
    with quiet(lab) as watching, fd_by_id("PROG", hook["program"]["id"]) as program:
        prog_test_run(program.fileno(), packet, repeat=number, flags=LIVE_FRAMES, batch_size=64)
        done = until(watching, lambda r: sum(one.packets for one in r.counts) >= number)
    found = {one.happening.kind: one for one in done.counts}
    assert set(found) <= {Kind.CPUMAP_ENQUEUE, Kind.CPUMAP_PROGRAM}
    assert sum(one.packets for one in found.values()) == number
    full = found[Kind.CPUMAP_ENQUEUE].happening
    assert (full.cpu, full.map_name) == (0, "cpus")
    assert "queue of CPU 0 in the cpumap was full" in full.cause
    assert "larger qsize" in full.advice


# --- drops by reason ------------------------------------------------------------------------------------------


def test_drops_have_the_kernels_reasons(lab: Lab, wrong: bytes) -> None:
    """A wrong checksum, and a port that nobody listens on."""
    attach(lab, wrong)
    lab.run("ip", "addr", "add", "10.0.0.2/24", "dev", "dut0")
    with quiet(lab) as watching:
        send(lab.wire.peer, "p")
        checksum = counted(
            watching, Kind.DROP, matching=lambda c: c.happening.reason == "IP_CSUM"
        ).happening
        good = [checked(frame(lab.wire.peer, mark=ord("p") << 24 | at)) for at in range(7)]
        lab.wire.peer.send(good)
        closed = counted(
            watching, Kind.DROP, 7, matching=lambda c: c.happening.reason == "NO_SOCKET"
        ).happening
    assert checksum.interface is not None
    assert checksum.interface.name == "dut0"
    assert checksum.function == "ip_rcv_core"
    assert checksum.example == 0x0800
    assert "IP checksum was wrong" in checksum.cause
    assert closed.interface is not None
    assert closed.interface.name == "dut0"
    assert "nobody listens" in closed.cause


def checked(packet: bytes) -> bytes:
    """With the IP checksum that it lacks."""
    head = packet[14:34]
    total = sum(int.from_bytes(head[at : at + 2]) for at in range(0, 20, 2))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return packet[:24] + (~total & 0xFFFF).to_bytes(2) + packet[26:]


@pytest.mark.parametrize("direction", ["ingress", "egress"])
def test_what_tc_programs_drop(lab: Lab, wrong: bytes, direction: str) -> None:
    path = lab.directory / "wrong.o"
    path.write_bytes(wrong)
    lab("attach", "tc", "dut0", path, "-n", "shoot", f"--{direction}")
    with quiet(lab) as watching:
        if direction == "ingress":
            send(lab.wire.peer, "p")
        else:
            lab.wire.dut.run(send_out, "dut0")
        found = counted(
            watching, Kind.DROP, matching=lambda c: c.happening.reason == f"TC_{direction.upper()}"
        ).happening
    assert found.hook == f"tc/{direction}"
    assert found.program is not None
    assert found.program.name == "shoot"
    assert "TC program dropped it" in found.cause


def send_out(name: str) -> None:
    """Through the stack's own way out, where TC is."""
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as raw:
        raw.bind((name, 0))
        for _ in range(PACKETS):
            with pytest.raises(OSError, match="No buffer space"):  # what senders see of a drop
                raw.send(bytes(60))


@BOTH
def test_what_xdp_drops(lab: Lab, wrong: bytes, mode: str) -> None:
    attach(lab, wrong, "--mode", mode)
    with quiet(lab) as watching:
        send(lab.wire.peer, "d")
        found = counted(watching, Kind.DROP).happening
    assert found.hook == "xdp"
    assert found.program is not None
    assert found.program.name == "wrong"
    assert "XDP dropped it" in found.cause
