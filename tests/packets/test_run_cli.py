"""``netbpf run``: what people and scripts see."""

import os
import signal
import struct
import subprocess
import sys
from pathlib import Path

import pytest

import netbpf
from netbpf.errors import PacketTextError
from netbpf.net.netns import Namespace
from netbpf.packets.changes import Snapshot
from netbpf.packets.run import run_packet
from netbpf.packets.testrun import Bench
from tests.cli.lab import run_cli
from tests.packets.run_sources import CHANGING, MAPS, REDIRECT, TC, XDP, built

UDP = "Ether()/IP(dst='10.0.0.1')/UDP(dport=53)"
ARP = "ff ff ff ff ff ff 02 00 00 00 00 01 08 06"


def write(source: str, name: str = "made.o") -> Path:
    path = Path(name)
    path.write_bytes(built(source))
    return path


# --- text ---


def test_the_verdict_comes_first_then_what_changed() -> None:
    done = run_cli("run", "builtin:xdp_count", "--packet", UDP)
    assert (done.code, done.err) == (0, "")
    assert done.lines[0].startswith("xdp_count: pass, 42 bytes, ")
    assert done.lines[0].endswith(" ns (one run; --repeat N gives a mean)")
    assert done.lines[1:] == [
        "  the packet is as it was",
        "  netbpf_protos (percpu_array)  before  after",
        "    ipv4 packets                0       1",
        "    ipv4 bytes                  0       42",
        "    ipv4/udp packets            0       1",
        "    ipv4/udp bytes              0       42",
        "  netbpf_verdicts (percpu_array)  before  after",
        "    pass packets                  0       1",
        "    pass bytes                    0       42",
    ]


def test_a_changed_packet_by_its_fields() -> None:
    done = run_cli("run", write(CHANGING), "--set", "what=1", "--packet", UDP)
    assert done.lines[1:] == [
        "  packet     before  after",
        "  IP.ttl     64      63",
        "  IP.chksum  0xaece  0xafce",
        "  no variable and no map entry changed",
    ]


def test_a_header_put_in_is_one_line() -> None:
    done = run_cli("run", write(CHANGING), "--set", "what=2", "--packet", UDP)
    assert done.lines[0].startswith("change: tx, 42 bytes in, 46 out, ")
    assert [line for line in done.lines if line.startswith("  + ")] == [
        "  + Dot1Q     -       prio=0 dei=0 vlan=5 type=IPv4"
    ]


def test_metadata_that_the_program_left() -> None:
    done = run_cli("run", write(CHANGING), "--set", "what=3", "--hex", ARP)
    assert "  metadata  01 02 03 04" in done.lines


def test_verbose_adds_columns_of_hex() -> None:
    plain = run_cli("run", write(CHANGING), "--set", "what=1", "--packet", UDP)
    long = run_cli("run", "made.o", "--set", "what=1", "--packet", UDP, "-v")
    assert "offset" not in plain.out
    [at] = [number for number, line in enumerate(long.lines) if line.startswith("  offset  before")]
    assert "^^" in "".join(long.lines[at:])


def test_context_that_a_tc_program_changed() -> None:
    done = run_cli(
        "run", write(TC), "--set", "new_mark=255", "--mark", "0x10", "--cb", "1,2", "--hex", ARP
    )
    at = done.lines.index("  context  before  after")
    assert done.lines[at + 1 : at + 3] == ["  mark     0x10    0xff", "  cb[3]    0x0     0x7"]


def test_variables_entries_and_what_nobody_can_see() -> None:
    done = run_cli("run", write(MAPS), "--hex", ARP)
    rest = [line.split() for line in done.lines]
    for line in (
        "  total     0       1",
        "  table[1]  2       20",
        "  + 3         -       {packets: 1, bytes: 14}",
        "    999          0       3",
        "  not looked into, because it cannot be without consequences: events",
    ):
        assert line.split() in rest


def test_repeat_gives_a_mean_and_counts_once() -> None:
    done = run_cli("run", write(XDP), "--hex", ARP, "--repeat", "1000")
    assert done.lines[0].endswith(" ns a run (1,000 runs)")
    [line] = [one for one in done.lines if one.startswith("  runs ")]
    assert line.split() == ["runs", "0", "1"]


def test_a_timer_does_not_break_off_many_runs() -> None:
    ticks: list[int] = []
    before = signal.signal(signal.SIGALRM, lambda number, _: ticks.append(number))
    signal.setitimer(signal.ITIMER_REAL, 0.01, 0.01)
    try:
        done = run_cli("run", write(XDP), "--hex", ARP, "--repeat", "5000000", "--json")
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert (done.code, done.json["runs"]) == (0, 5_000_000)
    assert ticks


def test_repeating_a_program_that_changes_the_packet_begins_anew_each_time() -> None:
    """Else the headroom would be used up after some runs, and the mean be that of another path."""
    with Bench.open(built(CHANGING), settings={"what": 2}) as bench:
        result = run_packet(bench, bytes(60), repeat=200)
        assert (result.verdict, result.runs) == ("tx", 200)
        before = Snapshot(bench.maps(), bench.hook)
        bench.run(bytes(60), repeat=200)
        assert [one.name for one in before.changes().variables] == ["full"]
        [left] = before.changes().variables
    assert left.before == 0


# --- notes ---


@pytest.mark.parametrize(
    ("arguments", "notes"),
    [
        (["-n", "by_map"], [
            "bpf_redirect_map gives aborted for an entry that is missing, unless its flags say otherwise",
            "devmap ports is empty, as the object has it",
        ]),
        (["-n", "plain"], ["the packet was not redirected: TEST_RUN does not look whether the target is there"]),
        (["-n", "away"], ["the packet was not redirected: TEST_RUN does not look whether the target is there"]),
        (["-n", "aborts"], []),
    ],
    ids=["map", "xdp", "tc", "none"],
)  # fmt: skip
def test_redirects_are_told_as_far_as_they_go(arguments: list[str], notes: list[str]) -> None:
    done = run_cli("run", write(REDIRECT), *arguments, "--hex", ARP, "--json")
    assert done.json["notes"] == notes
    assert done.err.splitlines() == [f"netbpf: note: {one}" for one in notes]
    assert done.json["verdict"] == ("redirect" if arguments[1] in ("plain", "away") else "aborted")


def test_what_differs_from_a_hook_is_said() -> None:
    write(XDP)
    write(TC, "tc.o")
    long = run_cli("run", "made.o", "--hex", "00" * 5000, "--json").json["notes"]
    assert (
        "5000 bytes are more than an interface with MTU 1500 lets in (TEST_RUN knows no MTU)"
        in long
    )
    assert any("of 5000 bytes lay between data and data_end" in one for one in long)
    tagged = run_cli("run", "tc.o", "--packet", "Ether()/Dot1Q()/IP()", "--json").json["notes"]
    assert tagged == [
        "a VLAN tag is still in this packet; on a hook the kernel has taken it out (skb->vlan_tci)"
    ]
    strange = run_cli("run", "made.o", "--hex", ARP, "--set", "verdict=99", "--json").json
    assert strange["verdict"] == "99"
    assert strange["notes"] == [
        "99 is no verdict; on a hook the packet would be dropped, as aborted"
    ]
    typed = run_cli("run", "tc.o", "--hex", ARP + "00" * 40, "--protocol", "ipv6", "--json").json
    assert typed["notes"] == [
        "the packet's EtherType was 0x0806; the kernel takes skb->protocol from there"
    ]
    assert typed["before"][24:28] == "86dd"


# --- JSON ---


def test_json_has_it_all() -> None:
    done = run_cli("run", write(CHANGING), "--set", "what=4", "--packet", UDP, "--json")
    found = done.json
    assert done.err == ""
    assert {name: found[name] for name in ("schema", "program", "hook", "verdict", "verdict_number", "modified")} == {
        "schema": "netbpf.run/1", "program": "change", "hook": "xdp", "verdict": "tx", "verdict_number": 3,
        "modified": True,
    }  # fmt: skip
    assert len(found["before"]) - len(found["after"]) == 4
    assert found["object"] == str(Path("made.o").resolve())
    assert found["runs"] == 1
    assert found["ns_per_run"] > 0
    assert (found["variables"], found["maps"], found["context"], found["unseen"]) == (
        {},
        [],
        {},
        [],
    )


def test_json_of_variables_and_maps() -> None:
    found = run_cli("run", write(MAPS), "--hex", ARP, "--json").json
    assert found["variables"]["total"] == {"before": 0, "after": 1}
    maps = {one["name"]: one for one in found["maps"]}
    assert maps["flows"] == {
        "name": "flows", "type": "hash",
        "entries": [
            {"key": 3, "label": "3", "change": "added", "before": None, "after": {"packets": 1, "bytes": 14}}
        ],
    }  # fmt: skip
    assert found["unseen"] == ["events"]


# --- the packet ---


def test_a_file_and_standard_input(tmp_path: Path) -> None:
    frame = bytes.fromhex(ARP) + bytes(46)
    head = struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, 1)
    records = b"".join(
        struct.pack("<IIII", 0, 0, len(one), len(one)) + one for one in (bytes(20), frame)
    )
    Path("in.pcap").write_bytes(head + records)
    assert (
        run_cli("run", "builtin:xdp_count", "in.pcap", "--json").json["before"] == bytes(20).hex()
    )
    second = run_cli("run", "builtin:xdp_count", "in.pcap", "--number", "2", "--json")
    assert second.json["before"] == frame.hex()
    command = [sys.executable, "-m", "netbpf", "run", "builtin:xdp_count", "-", "--json"]
    environment = {**os.environ, "PYTHONPATH": str(Path(netbpf.__file__).parents[1])}
    done = subprocess.run(
        command, input=head + records, capture_output=True, check=True, env=environment
    )
    assert bytes(20).hex().encode() in done.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "no packet: give --packet, --hex or a file"),
        (
            ["--hex", "00", "--packet", "IP()"],
            "one packet: give --packet, --hex or a file, and no two of them",
        ),
        (["--hex", ARP, "--number", "1"], "--number is for captures"),
        (["--hex", ARP, "--mark", "many"], "'many' is no number"),
        (["--hex", ARP, "--mark", "0x100000000"], "0x100000000 does not fit into 32 bits"),
        (["--hex", ARP, "--cb", "1,x"], "'x' is no number"),
        (["--hex", ARP, "--protocol", "ipx"], "'ipx' is no number and none of ip, ipv4, arp, ipv6"),
        (["--hex", ARP, "--mark", "1"], "mark is for tc programs, and this one is for xdp"),
        (["--hex", ARP, "--meta", "00"], "metadata of 1 bytes: the kernel takes multiples of 4"),
        (
            ["--hex", "00" * 13],
            "a packet of 13 bytes cannot be run: TEST_RUN takes no less than 14",
        ),
        (["--hex", ""], "a packet of 0 bytes cannot be run: TEST_RUN takes no less than 14"),
        (["--hex", ARP, "--repeat", "0"], "0 is not in the range"),
    ],
)
def test_usage(arguments: list[str], message: str) -> None:
    done = run_cli("run", "builtin:xdp_count", *arguments)
    assert (done.code, done.out) == (2, "")
    assert message in done.error


def test_the_place_of_a_mistake_is_marked_above_the_error() -> None:
    done = run_cli("run", "builtin:xdp_count", "--packet", "Ether()/IP(dst='10.0.0.1'/UDP()")
    assert done.code == 2
    assert done.err.splitlines() == [
        "  Ether()/IP(dst='10.0.0.1'/UDP()",
        "            ^",
        "netbpf: error: the packet does not parse: '(' was never closed",
    ]
    done = run_cli(
        "run", "builtin:xdp_count", "--packet", "__import__('os').system('id')", "--json"
    )
    assert done.json["error"]["at"] == 0
    assert done.json["error"]["text"] == "__import__('os').system('id')"
    assert done.json["error"]["length"] == len("__import__('os').system")


def test_too_long_is_not_supported() -> None:
    assert run_cli("run", "builtin:tc_count", "--hex", "00" * 9000).code == 5


def test_an_interface_by_name_in_a_namespace() -> None:
    write(XDP)
    with Namespace.create() as space:
        space.run(
            subprocess.run,
            ["ip", "link", "add", "in0", "type", "veth", "peer", "name", "in1"],
            check=True,
        )
        result = netbpf.run("made.o", bytes(60), interface="in0", netns=space)
    assert result.outcome.context.ifindex > 1
    done = run_cli("run", "made.o", "--hex", ARP, "--ifindex", "nonsense0")
    assert (done.code, "nonsense0" in done.error) == (6, True)
    assert (
        run_cli("run", "made.o", "--hex", ARP, "--ifindex", "lo", "--json").json["verdict"]
        == "pass"
    )
    assert run_cli("run", "made.o", "--hex", ARP, "--ifindex", "999999").code == 6


def test_without_scapy_hex_still_runs_and_the_packets_are_shown_in_columns() -> None:
    write(CHANGING)
    code = (
        "import sys\n"
        "class Gone:\n"
        "    def find_spec(self, name, *_):\n"
        "        if name.partition('.')[0] == 'scapy': raise ModuleNotFoundError(name, name='scapy')\n"
        "sys.meta_path.insert(0, Gone())\n"
        "from netbpf.cli.main import main\n"
        "main(sys.argv[1:])\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(netbpf.__file__).parents[1])}

    def without(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-c", code, "run", "made.o", "--set", "what=2", *arguments]
        return subprocess.run(command, capture_output=True, text=True, env=environment, check=False)

    done = without("--hex", ARP)
    assert done.returncode == 0, done.stderr
    assert "  offset  before" in done.stdout
    done = without("--packet", "IP()")
    assert done.returncode == 5
    assert "pip install 'netbpf[packets]'" in done.stderr


def test_scapy_is_not_loaded_for_a_packet_that_comes_out_as_it_was() -> None:
    environment = {**os.environ, "PYTHONPATH": str(Path(netbpf.__file__).parents[1])}
    code = (
        "import sys\nfrom netbpf.cli.main import main\n"
        "try:\n    main(sys.argv[1:])\nexcept SystemExit:\n    pass\n"
        "sys.exit(any(name.startswith(('scapy', 'rich', 'pyroute2')) for name in sys.modules))"
    )
    subprocess.run(
        [sys.executable, "-c", code, "run", "builtin:xdp_count", "--hex", ARP],
        env=environment,
        check=True,
    )


# --- the library ---


def test_the_library_takes_bytes_text_and_objects_in_memory() -> None:
    result = netbpf.run(built(CHANGING), UDP, settings={"what": 1})
    assert (result.verdict, result.modified) == ("tx", True)
    assert [one.path for one in result.fields or ()] == ["IP.ttl", "IP.chksum"]
    assert (
        netbpf.run(built(TC), bytes(60), context=netbpf.Context(mark=3)).outcome.context.mark == 3
    )
    with pytest.raises(PacketTextError):
        netbpf.run("builtin:xdp_count", "IP(")
