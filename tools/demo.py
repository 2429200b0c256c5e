#!/usr/bin/env python3
"""``make demo``: two hosts on one wire, real packets through three programs, and every number checked.

The two hosts are network namespaces without a name, with one veth pair between them; the machine's own interfaces
are never touched. All commands shown are the real ``netbpf``, run inside those namespaces. Exit code 0: every number
was exactly what was sent, and nothing was left. 1: something was not. 130: interrupted, and cleaned up.
"""

import json
import os
import shlex
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

from netbpf.bpf import ids
from netbpf.net.netns import all_namespaces
from netbpf.state import records
from netns_fixtures.topology import End, Topology

NETBPF = Path(sys.executable).with_name("netbpf")
PATIENCE = 5.0  # seconds for the kernel to free what nobody uses any more
TELNET_RULE, NETWORK_RULE = 23, 66  # rule numbers, chosen here


class DemoError(Exception):
    """A command failed, or a number is not what it has to be."""


# --- what is sent ---


@dataclass(frozen=True, slots=True)
class Flow:
    """Equal packets: what they are, how many, the classes they count in, and the rule that drops them (0: none)."""

    name: str
    packet: Any
    count: int
    classes: tuple[str, ...]
    rule: int = 0


def flows() -> list[Flow]:
    """What the client sends in each round. The rules that drop some of it are added after the first."""
    from scapy.layers.inet import IP, TCP, UDP
    from scapy.layers.inet6 import ICMPv6EchoRequest, IPv6
    from scapy.layers.l2 import Dot1Q, Ether
    from scapy.packet import Raw

    here = IP(src="10.0.0.2", dst="10.0.0.1")
    return [
        Flow("UDP to port 53", here / UDP(sport=4000, dport=53) / Raw(b"question"), 40, ("ipv4", "ipv4/udp")),
        Flow("TCP to port 443", here / TCP(sport=4000, dport=443), 30, ("ipv4", "ipv4/tcp")),
        Flow("TCP to port 23", here / TCP(sport=4000, dport=23), 20, ("ipv4", "ipv4/tcp"), TELNET_RULE),
        Flow(
            "the same behind a VLAN tag", Ether() / Dot1Q(vlan=7) / here / TCP(sport=4000, dport=23), 5,
            ("ipv4", "ipv4/tcp", "vlan"), TELNET_RULE,
        ),
        Flow(
            "UDP from 192.0.2.0/24", IP(src="192.0.2.9", dst="10.0.0.1") / UDP(sport=4000, dport=53), 10,
            ("ipv4", "ipv4/udp"), NETWORK_RULE,
        ),
        Flow(
            "ICMPv6 echo requests", IPv6(src="fd00::2", dst="fd00::1") / ICMPv6EchoRequest(), 15,
            ("ipv6", "ipv6/icmpv6"),
        ),
    ]  # fmt: skip


def answers() -> list[Flow]:
    """What the server sends back."""
    from scapy.layers.inet import ICMP, IP, UDP
    from scapy.packet import Raw

    back = IP(src="10.0.0.1", dst="10.0.0.2")
    return [
        Flow(
            "UDP from port 53",
            back / UDP(sport=53, dport=4000) / Raw(b"answer" * 50),
            40,
            ("ipv4", "ipv4/udp"),
        ),
        Flow("ICMP echo replies", back / ICMP(type="echo-reply"), 12, ("ipv4", "ipv4/icmp")),
    ]


@dataclass(slots=True)
class Tally:
    """Packets and bytes by name, as netbpf counts them: of what was sent, and of what a program says."""

    packets: Counter[str] = field(default_factory=Counter)
    bytes: Counter[str] = field(default_factory=Counter)

    def add(self, name: str, packets: int, size: int) -> None:
        """Count so many packets of together ``size`` bytes."""
        if packets:
            self.packets[name] += packets
            self.bytes[name] += size

    @classmethod
    def read(cls, counters: Mapping[str, Mapping[str, int]]) -> "Tally":
        """From the counters of ``netbpf stats --json``."""
        made = cls()
        for name, one in counters.items():
            made.add(name, one["packets"], one["bytes"])
        return made


# --- the two hosts ---


class Host:
    """One end of the wire, where commands are run."""

    def __init__(self, name: str, end: End) -> None:
        self.name = name
        self.end = end

    def show(self, command: str) -> None:
        """Run a netbpf command as a person would, output and all."""
        print(f"{dim(self.name + '#')} {bold(command)}", flush=True)
        self._netbpf(command)
        print(flush=True)

    def json(self, command: str) -> dict[str, Any]:
        """What a netbpf command prints with ``--json``."""
        done = self._netbpf(f"{command} --json", stdout=subprocess.PIPE)
        found: dict[str, Any] = json.loads(done.stdout)
        return found

    def _netbpf(self, command: str, **how: Any) -> "subprocess.CompletedProcess[str]":
        words = [str(NETBPF), *shlex.split(command)[1:]]

        def run() -> "subprocess.CompletedProcess[str]":
            return subprocess.run(words, text=True, check=False, **how)

        done = self.end.run(run)
        if done.returncode:
            raise DemoError(f"`{command}` on {self.name} ended with exit code {done.returncode}")
        return done

    def send(self, sent: Iterable[Flow]) -> dict[str, int]:
        """Send flows; the bytes of each."""
        sizes = {}
        for flow in sent:
            frames = self.end.send([flow.packet] * flow.count)
            sizes[flow.name] = sum(map(len, frames))
            print(f"  {flow.count:3} packets, {sizes[flow.name]:6,} bytes  {flow.name}", flush=True)
        return sizes


# --- what is shown ---


def bold(text: str) -> str:
    """Bold on a terminal."""
    return _styled(text, 1)


def dim(text: str) -> str:
    """Dim on a terminal."""
    return _styled(text, 2)


def _styled(text: str, code: int) -> str:
    plain = not sys.stdout.isatty() or os.environ.get("NO_COLOR")
    return text if plain else f"\033[{code}m{text}\033[0m"


def chapter(text: str) -> None:
    """What comes next."""
    print(f"{bold('==')} {bold(text)}\n", flush=True)


class Checks:
    """Compares what programs counted with what was sent."""

    def __init__(self) -> None:
        self.done = 0

    def equal(self, what: str, counted: object, sent: object) -> None:
        """DemoError unless both are the same."""
        self.done += 1
        if counted != sent:
            raise DemoError(f"{what}: {counted} counted, but {sent} expected")

    def tally(self, what: str, counted: Tally, sent: Tally) -> None:
        """Every name of both sides: packets and bytes."""
        for name in sorted({*counted.packets, *sent.packets}):
            self.equal(f"{what}: packets of {name}", counted.packets[name], sent.packets[name])
            self.equal(f"{what}: bytes of {name}", counted.bytes[name], sent.bytes[name])


# --- the story ---


def story(client: Host, server: Host, checks: Checks) -> None:
    """Attach, send, look, filter, send again, look again, check."""
    chapter("Three programs on two interfaces")
    server.show("netbpf attach xdp server0 builtin:xdp_drop")
    server.show("netbpf attach tc server0 builtin:tc_count --ingress")
    client.show("netbpf attach xdp client0 builtin:xdp_count")
    server.show("netbpf status")

    chapter("The client sends; the filter has no rules yet")
    sent = flows()
    sizes = client.send(sent)
    print()
    rounds = [(sent, sizes, False)]
    check_server(server, rounds, checks)

    chapter("Rules, while it runs: no telnet, and nothing from one network")
    server.show(f"netbpf set server0 'tcp_dport[23]={{action: DROP, rule: {TELNET_RULE}}}'")
    server.show(f"netbpf set server0 'src4[192.0.2.0/24]={{action: DROP, rule: {NETWORK_RULE}}}'")

    chapter("The client sends the same again, and the server answers")
    rounds.append((sent, client.send(sent), True))
    back = answers()
    back_sizes = server.send(back)
    print()

    chapter("What the programs counted")
    server.show("netbpf stats server0")
    client.show("netbpf stats client0")

    check_server(server, rounds, checks)
    check_client(client, back, back_sizes, checks)
    total = sum(flow.count for sent, _, _ in rounds for flow in sent)
    total += sum(flow.count for flow in back)
    print(
        f"{bold('Exact')}: {total} packets sent, and {checks.done} numbers compared with them agree.\n"
    )


def check_server(
    server: Host, rounds: list[tuple[list[Flow], dict[str, int], bool]], checks: Checks
) -> None:
    """The filter dropped what its rules name and nothing else; TC behind it saw exactly the rest."""
    verdicts, behind, hits = Tally(), Tally(), Tally()
    for sent, sizes, filtered in rounds:
        for flow in sent:
            rule = flow.rule if filtered else 0
            verdicts.add("drop" if rule else "pass", flow.count, sizes[flow.name])
            hits.add(str(rule), flow.count, sizes[flow.name])
            for name in () if rule else flow.classes:
                behind.add(name, flow.count, sizes[flow.name])
    hooks = {one["hook"]: one for one in server.json("netbpf stats server0")["hooks"]}
    xdp, tc = hooks["xdp"], hooks["tc/ingress"]
    checks.tally("xdp_drop", Tally.read(xdp["verdicts"]), verdicts)
    [counted] = [one for one in xdp["maps"] if one["name"] == "hits"]
    by_rule = {str(one["key"]): one["value"] for one in counted["entries"]}
    checks.tally("xdp_drop, by rule", Tally.read(by_rule), hits)
    checks.tally("tc_count", Tally.read(tc["protocols"]), behind)
    checks.equal(
        "tc_count: verdicts", Tally.read(tc["verdicts"]).packets["unspec"], verdicts.packets["pass"]
    )


def check_client(client: Host, sent: list[Flow], sizes: dict[str, int], checks: Checks) -> None:
    """The counter on the other end saw exactly the answers."""
    expected = Tally()
    for flow in sent:
        for name in flow.classes:
            expected.add(name, flow.count, sizes[flow.name])
    [hook] = client.json("netbpf stats client0")["hooks"]
    checks.tally("xdp_count", Tally.read(hook["protocols"]), expected)
    total = Tally()
    total.add("pass", sum(flow.count for flow in sent), sum(sizes.values()))
    checks.tally("xdp_count", Tally.read(hook["verdicts"]), total)


# --- the end ---


@dataclass(slots=True)
class Traces:
    """What the demo made, so that its absence can be shown."""

    programs: set[int] = field(default_factory=set)
    maps: set[int] = field(default_factory=set)
    namespaces: set[int] = field(default_factory=set)

    def note(self, host: Host) -> None:
        """Remember the programs and maps on a host's hooks."""
        for hook in host.json("netbpf status")["hooks"]:
            self.programs.add(hook["program"]["id"])
            self.maps.update(hook["program"]["map_ids"])

    def left(self) -> list[str]:
        """What is still there after a moment of patience, in words.

        To be asked while the demo still holds its namespaces: afterwards the kernel may give their numbers to others.
        """
        deadline = time.monotonic() + PATIENCE
        while (found := self._now()) and time.monotonic() < deadline:
            time.sleep(0.01)  # the kernel frees programs after their last packet, in its own time
        return found

    def _now(self) -> list[str]:
        found = [f"program {one}" for one in self.programs.intersection(ids.program_ids())]
        found += [f"map {one}" for one in self.maps.intersection(ids.map_ids())]
        used = {one.inode for one in all_namespaces()}
        found += [f"a process in, or a name of, namespace {one}" for one in self.namespaces & used]
        kept = [one for one in records.read_all() if one.netns in self.namespaces]
        return found + [f"record of {one.interface} {one.hook}" for one in kept]

    def held(self) -> list[str]:
        """The demo's namespaces that this process itself has not let go of."""
        numbers = os.listdir("/proc/self/fd")
        links = [Path(f"/proc/self/fd/{one}") for one in numbers]
        names = {f"net:[{one}]" for one in self.namespaces}
        return [
            str(one.readlink())
            for one in links
            if one.is_symlink() and str(one.readlink()) in names
        ]


def detach(hosts: list[Host], traces: Traces) -> None:
    """Take everything off as a person would."""
    chapter("Everything off again")
    for host in hosts:
        traces.note(host)
    for host in hosts:
        host.show("netbpf detach --all")
        host.show("netbpf status")


@contextmanager
def cleaned_up(hosts: list[Host]) -> Iterator[None]:
    """Whatever happens inside, also Ctrl-C: nothing stays attached."""
    try:
        yield
    except BaseException:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        for host in hosts:
            host.json("netbpf detach --all --ignore-missing")
        raise


def _interrupt(*_: object) -> NoReturn:
    raise KeyboardInterrupt


def main() -> int:
    """Run it; the exit code."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _interrupt)
    if os.geteuid() != 0:
        print("demo: it makes namespaces and attaches programs: run it as root", file=sys.stderr)
        return 10
    started = time.monotonic()
    traces = Traces()
    try:
        with Topology() as topology:
            wire = topology.wire(names=("server0", "client0"))
            server, client = Host("server", wire.dut), Host("client", wire.peer)
            traces.namespaces = {wire.dut.namespace.inode, wire.peer.namespace.inode}
            print("\n  client0 ============ veth ============ server0\n")
            with cleaned_up([server, client]):
                story(client, server, Checks())
                detach([server, client], traces)
            left = traces.left()
        left += [f"open descriptor of {one}" for one in traces.held()]
        if left:
            raise DemoError(f"left behind: {', '.join(left)}")
    except DemoError as error:
        print(f"demo: error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\ndemo: interrupted; everything is off again", file=sys.stderr)
        return 128 + signal.SIGINT
    print(
        f"{bold('Nothing is left')}: {len(traces.programs)} programs, {len(traces.maps)} maps, 2 namespaces and "
        f"netbpf's records are gone. {time.monotonic() - started:.1f} s."
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
