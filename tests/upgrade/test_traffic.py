"""Upgrades of a program that real packets run through, on every CPU: each packet is counted once."""

from contextlib import ExitStack

import pytest

from netbpf.constants import Hook, Mode
from netbpf.model import Interface, TcFilter
from netbpf.net import tc, xdp
from netbpf.net.interfaces import resolve
from netbpf.net.rtnetlink import Session
from netns_fixtures.topology import End, Topology
from tests.bpf.test_chain_live import WAYS, Storm, eventually
from tests.upgrade.lab import Lab, Running, actions, program

COUNT = "__sync_fetch_and_add"


class Place:
    """One hook, with one program after the other, each in place of the one before."""

    def __init__(self, end: End, hook: Hook, mode: Mode, held: ExitStack) -> None:
        self.session = held.enter_context(Session(end.namespace))
        self.interface: Interface = resolve(self.session, end.ifname)
        self.hook, self.mode = hook, mode
        self.now: Running | None = None
        self.filter: TcFilter | None = None

    def put(self, new: Running) -> None:
        session, interface, hook = self.session, self.interface, self.hook
        if hook is Hook.XDP:
            xdp.attach(
                session, interface, new.fd, self.mode, expected_fd=self.now.fd if self.now else None
            )
        elif self.now and self.filter:
            number = self.now.loaded.program.info.id
            tc.replace(session, interface, hook, self.filter, new.fd, expected_id=number)
        else:
            tc.ensure_clsact(session, interface)
            self.filter = tc.attach(session, interface, hook, new.fd, name="prog", priority=1)
        self.now = new


def counting(hook: Hook, variables: str, value: str) -> str:
    """Counts each packet in a variable, in an entry of a hash map, in another that it makes, and on its CPU."""
    section, word = ("xdp", 2) if hook is Hook.XDP else ("tc", -1)
    uses = "".join(
        f"USE({one.split()[-1].split('[')[0]});" for one in variables.split(";") if one.strip()
    )
    body = f"""{uses}
    {COUNT}(&hits, 1); {COUNT}(&many[2], 1);
    __u32 k = 1;
    struct v *v = bpf_map_lookup_elem(&flows, &k);
    if (v) {COUNT}(&v->n, 1);
    k = bpf_get_smp_processor_id() + 10 * (hits >> 8 & 3);
    v = bpf_map_lookup_elem(&made, &k);
    if (!v) {{
        struct v zero = {{}};
        bpf_map_update_elem(&made, &k, &zero, BPF_NOEXIST);
        v = bpf_map_lookup_elem(&made, &k);
    }}
    if (v) {COUNT}(&v->n, 1);
    k = 0;
    v = bpf_map_lookup_elem(&cpus, &k);
    if (v) {{ v->n++; v->s++; }}
    return {word}"""
    before = f"""{variables}
    struct v {{ {value} }};
    MAP(flows, HASH, 16, __u32, struct v); MAP(made, HASH, 256, __u32, struct v);
    MAP(cpus, PERCPU_ARRAY, 1, __u32, struct v);"""
    return program(body, before, section=section).replace("; return 2; }", "; }")


SMALL, LARGE = "__u64 n; __u32 s;", "__u64 n; __u32 s; __u64 fresh;"
VERSIONS = [
    ("__u64 hits; __u32 many[3];", SMALL),
    ("__u32 many[3]; char pad; __u64 hits;", SMALL),  # another order, a neighbour with padding
    ("__u64 before[5]; __u64 hits; __u64 many[3];", LARGE),  # wider, shifted, and values that grew
    ("__u32 many[9]; __u64 hits;", LARGE + "char more[40];"),
    ("__u16 odd[3]; __u64 hits; char x; __u64 many[9];", LARGE + "char more[40];"),
]  # fmt: skip


def counted(running: Running, more: int) -> None:
    """Wait until a program has counted so many packets more."""
    before = running.variables()["hits"]
    assert eventually(lambda: running.variables()["hits"] > before + more)


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
def test_every_packet_is_counted_once(lab: Lab, topology: Topology, way: tuple[Hook, Mode]) -> None:
    hook, mode = way
    wire = topology.wire()
    source = wire.dut if hook is Hook.TC_EGRESS else wire.peer
    running = lab.old(counting(hook, *VERSIONS[0]), hook=hook)
    running.put("flows", 1, bytes(running.map("flows").info.value_size))
    place = Place(wire.dut, hook, mode, lab.opened)
    place.put(running)
    storm = Storm(source, lab.opened)
    moved = set()
    try:
        for variables, value in VERSIONS[1:]:
            counted(running, 200)
            done = lab.upgraded(running, counting(hook, variables, value))
            counted(running, 200)  # after the copy: this is what has to be merged
            moved |= set(actions(done.plan).values())
            place.put(done.new)
            counted(done.new, 20)
            report = done.finish()
            assert report.waited
            assert all(one.values for one in report.merged)
            assert report.notes == ()
            running = done.new
    finally:
        sent = storm.end()
    assert moved == {"carried", "variables", "entries"}
    assert sent > 1000
    assert eventually(lambda: running.variables()["hits"] == sent), (
        running.variables()["hits"],
        sent,
    )
    assert running.variables()["many"][2] == sent
    assert running.entries("flows")[1]["n"] == sent
    assert running.entries("cpus")[0]["n"] == sent
    assert running.entries("cpus")[0]["s"] == sent
    assert sum(one["n"] for one in running.entries("made").values()) == sent
