"""Chains on real interfaces: nothing lost and nothing counted twice while they change under traffic on every CPU."""

import errno
import os
import select
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest

from netbpf.bpf.chain import Chain, Part
from netbpf.constants import Hook, Mode
from netbpf.errors import NotSupportedError
from netbpf.model import TcFilter
from netbpf.net import tc, xdp
from netbpf.net.interfaces import resolve
from netbpf.net.rtnetlink import Session
from netns_fixtures.topology import End, Topology
from tests.bpf.chain_lab import Bench

if TYPE_CHECKING:
    from netbpf.model import Interface

WAYS = {
    "xdp-native": (Hook.XDP, Mode.NATIVE),
    "xdp-skb": (Hook.XDP, Mode.SKB),
    "tc-ingress": (Hook.TC_INGRESS, Mode.CLSACT),
    "tc-egress": (Hook.TC_EGRESS, Mode.CLSACT),
}


def eventually(true: Callable[[], bool]) -> bool:
    """What the kernel does in its own time."""
    end = time.monotonic() + 20
    while not true():
        if time.monotonic() > end:
            return False
        select.select([], [], [], 0.002)
    return True


class Place:
    """One hook of an end, onto which chains are put, each in place of the one before."""

    def __init__(self, end: End, hook: Hook, mode: Mode) -> None:
        self.session = Session(end.namespace)
        self.interface: Interface = resolve(self.session, end.ifname)
        self.hook, self.mode = hook, mode
        self.now: Chain | None = None
        self.filter: TcFilter | None = None

    def put(self, chain: Chain) -> None:
        session, interface, hook, fd = self.session, self.interface, self.hook, chain.fd.fileno()
        if hook is Hook.XDP:
            old = self.now.fd.fileno() if self.now else None
            xdp.attach(session, interface, fd, self.mode, expected_fd=old)
        elif self.now and self.filter:
            tc.replace(session, interface, hook, self.filter, fd, expected_id=self.now.info.id)
        else:
            tc.ensure_clsact(session, interface)
            self.filter = tc.attach(session, interface, hook, fd, name="chain", priority=1)
        self.now = chain

    def close(self) -> None:
        self.session.close()


@pytest.fixture(params=WAYS)
def way(request: pytest.FixtureRequest) -> tuple[Hook, Mode]:
    return WAYS[request.param]


@pytest.fixture
def held() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def counting(hook: Hook) -> str:
    """A member that counts with an instruction that no other CPU and nothing else can come between."""
    section, context, word = ("xdp", "xdp_md", 2) if hook is Hook.XDP else ("tc", "__sk_buff", -1)
    return f"""
__u64 runs;
SEC("{section}") int counts(struct {context} *ctx)
{{
	__sync_fetch_and_add(&runs, 1);
	return {word};
}}
"""


class Storm:
    """Frames from one thread on each CPU, until stopped; ``sent`` is how many there were."""

    def __init__(self, source: End, held: ExitStack) -> None:
        self.stop = threading.Event()
        self.sent = 0
        self._lock = threading.Lock()
        mac = bytes.fromhex((source.other.mac + source.mac).replace(":", ""))
        self.frame = (mac + b"\x88\xb5").ljust(
            100, b"\0"
        )  # an EtherType for experiments: nobody answers
        self.threads = []
        for cpu in os.sched_getaffinity(0):
            sock = held.enter_context(source.run(socket.socket, socket.AF_PACKET, socket.SOCK_RAW))
            sock.bind((source.ifname, 0))
            self.threads.append(threading.Thread(target=self._run, args=(cpu, sock)))
        for thread in self.threads:
            thread.start()

    def _run(self, cpu: int, sock: socket.socket) -> None:
        os.sched_setaffinity(0, {cpu})  # of this thread
        number = 0
        while not self.stop.is_set():
            try:
                sock.send(self.frame)
            except OSError as error:
                if error.errno != errno.ENOBUFS:  # the ring of the other end is full: not delivered
                    raise
            else:
                number += 1
        with self._lock:
            self.sent += number

    def end(self) -> int:
        self.stop.set()
        for thread in self.threads:
            thread.join()
        return self.sent


def test_counts_are_exact_while_the_chain_changes(
    topology: Topology, held: ExitStack, way: tuple[Hook, Mode]
) -> None:
    hook, mode = way
    wire = topology.wire()
    source = wire.dut if hook is Hook.TC_EGRESS else wire.peer
    with Bench(hook) as bench:
        spec = bench.spec(counting(hook))
        stays, *others = [bench.member(spec, f"m{number}") for number in range(7)]
        # What stays is first, last, in between, alone, and in a chain of two programs.
        many = [bench.member(spec) for _ in range(64)]
        orders = [
            (others[0], stays), (stays,), (stays, *others), (*others[:3], stays, others[4]), (stays, *many),
            (*many, stays), (others[5], stays),
        ]  # fmt: skip
        place = Place(wire.dut, hook, mode)
        held.callback(place.close)
        place.put(bench.build(*orders[0]))
        storm = Storm(source, held)
        try:
            for order in orders * 4:
                before = bench.number(stays)
                place.put(bench.build(*order))
                assert eventually(lambda before=before: bench.number(stays) > before + 20)  # type: ignore[misc]
        finally:
            sent = storm.end()
        assert sent > 1000
        assert eventually(lambda: bench.number(stays) == sent), (bench.number(stays), sent)
        name = "pass" if hook is Hook.XDP else "unspec"
        counts = bench.counters.read()
        for part in (stays, *others, *many):
            assert counts[part.slot] == {name: bench.number(part)}, part.name


NESTS = """
__u64 runs;
SEC("tc") int doubles(struct __sk_buff *ctx)
{
	__sync_fetch_and_add(&runs, 1);
	if (!ctx->mark) {
		ctx->mark = 1;
		bpf_clone_redirect(ctx, ctx->ifindex, 0);
	}
	return TC_ACT_UNSPEC;
}
"""


def test_a_chain_that_runs_within_itself(topology: Topology, held: ExitStack) -> None:
    """On egress, a member sends a copy out of the same interface: the whole chain runs, inside of the member."""
    wire = topology.wire()
    with Bench(Hook.TC_EGRESS) as bench:
        spec = bench.spec(counting(Hook.TC_EGRESS))
        parts = [bench.member(spec), bench.member(NESTS), bench.member(spec)]
        place = Place(wire.dut, Hook.TC_EGRESS, Mode.CLSACT)
        held.callback(place.close)
        place.put(bench.build(*parts))
        storm = Storm(wire.dut, held)
        try:
            assert eventually(lambda: bench.number(parts[0]) > 5000)
        finally:
            sent = storm.end()
        assert [bench.number(one) for one in parts] == [2 * sent] * 3
        assert [bench.counts(one) for one in parts] == [{"unspec": 2 * sent}] * 3


REDIRECTS = """
MAP(devices, DEVMAP, 4, __u32, __u32);
__u64 runs;
SEC("xdp") int redirects(struct xdp_md *ctx)
{
	runs++;
	return bpf_redirect_map(&devices, 1, XDP_DROP);
}
"""


@pytest.mark.parametrize("mode", [Mode.NATIVE, Mode.SKB])
def test_a_member_that_redirects(topology: Topology, held: ExitStack, mode: Mode) -> None:
    first = topology.wire()
    second = topology.wire(dut=first.dut.namespace)
    with Bench() as bench:
        spec = bench.spec(counting(Hook.XDP))
        parts = [bench.member(spec), bench.member(REDIRECTS, "r"), bench.member(spec)]
        devices = bench.map(parts[1], "devices")
        # The kernel looks an interface up in the namespace of whoever writes the entry.
        first.dut.run(devices.update, b"\1\0\0\0", second.dut.ifindex.to_bytes(4, "little"))
        place = Place(first.dut, Hook.XDP, mode)
        held.callback(place.close)
        place.put(bench.build(*parts))
        # A veth takes redirected frames in native mode only if its other end runs XDP too.
        passing = bench.build(bench.member(spec))
        far = Place(second.peer, Hook.XDP, mode)
        held.callback(far.close)
        far.put(passing)
        with second.peer.capture() as capture:
            frames = first.peer.send([bytes(12) + b"\x88\xb5" + bytes([n] * 50) for n in range(20)])
            capture.expect(*frames)
        assert bench.counts(parts[0]) == {"pass": 20}
        assert bench.counts(parts[1]) == {"redirect": 20}
        assert bench.counts(parts[2]) == {}


FRAGS = """
__u64 found;
SEC("xdp.frags") int reads(struct xdp_md *ctx)
{
	__u8 byte = 0;
	if (!bpf_xdp_load_bytes(ctx, 7000, &byte, 1) && byte == 0x5a)
		found++;
	return XDP_PASS;
}
"""


def test_frames_in_several_buffers(topology: Topology, held: ExitStack) -> None:
    wire = topology.wire(mtu=9000)
    with Bench() as bench:
        parts: list[Part] = [bench.member(FRAGS) for _ in range(2)]
        place = Place(wire.dut, Hook.XDP, Mode.NATIVE)
        held.callback(place.close)
        plain = bench.member(FRAGS.replace("xdp.frags", "xdp"), "plain")
        with pytest.raises(NotSupportedError):
            place.put(bench.build(*parts, plain))
        place.put(bench.build(*parts))
        with wire.dut.capture() as capture:
            [frame] = wire.peer.send(bytes(12) + b"\x88\xb5" + b"\x5a" * 8000)
            capture.expect(frame)
        assert [bench.number(one) for one in parts] == [1, 1]
        assert [bench.counts(one) for one in parts] == [{"pass": 1}] * 2
