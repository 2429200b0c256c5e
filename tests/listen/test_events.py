"""``netbpf events``: records of real programs, with their types, their losses and their other readers."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import netbpf
from netbpf.bpf.ringbuf import RingBuffer
from netbpf.cli.main import main
from tests.cli.lab import ROOT, Lab, run_cli
from tests.listen.sending import Outputs, outputs

SOURCE = (Path(__file__).parent / "reporting.bpf.c").read_text()


@pytest.fixture
def reporting(lab: Lab) -> Lab:
    """``reporting.bpf.c`` on dut0."""
    lab.attach("xdp", "dut0", lab.compiled(SOURCE, "reporting"))
    return lab


def send(lab: Lab, *lengths: int) -> None:
    """Frames of these lengths from 10.0.0.7."""

    def now() -> None:
        with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as wire:
            wire.bind(("peer0", 0))
            for length in lengths:
                head = bytes(12) + b"\x08\x00" + bytes(12) + bytes([10, 0, 0, 7])
                wire.send(head.ljust(length, b"\0"))

    lab.wire.peer.run(now)


def listening(*words: object, stdout: Any = subprocess.PIPE) -> subprocess.Popen[str]:
    """``netbpf WORDS`` once it reads: its first line on standard error is there."""
    running = subprocess.Popen(
        [sys.executable, "-m", "netbpf", *map(str, words)], cwd=ROOT, text=True,
        stdout=stdout, stderr=subprocess.PIPE,
    )  # fmt: skip
    assert running.stderr
    line = running.stderr.readline()
    assert " buffer of " in line, line + running.stderr.read()
    return running


def rows(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


# --- types ---


def test_a_declared_type(reporting: Lab) -> None:
    send(reporting, 60, 100)
    done = reporting("events", "dut0", "declared", "-c", "2")
    assert [line.split(None, 1)[1] for line in done.lines] == [
        "{length: 60, src_ip: 10.0.0.7, what: packet}",
        "{length: 100, src_ip: 10.0.0.7, what: packet}",
    ]
    assert done.err.splitlines() == [
        "netbpf: declared: ring buffer of reporting on dut0 xdp",
        "netbpf: declared: records of 16 bytes: struct seen, as its definition says",
        "netbpf: declared: 2 records, 0 lost (counted by the program in declared_lost)",
    ]


def test_the_only_struct_of_a_size_is_said_to_be_that(reporting: Lab) -> None:
    send(reporting, 60)
    done = reporting("events", "dut0", "plain", "-c", "1", "--json")
    record, end = rows(done.out)
    assert (record["type"], record["type_by"]) == ("struct other", "size")
    assert record["value"] == {"one": 1, "two": 2, "three": 3, "four": 4}
    assert (end["event"], end["records"], end["lost"], end["full"]) == ("end", 1, None, 0)
    assert "the only struct of this size in the program's BTF" in done.err


def test_a_type_that_is_asked_for(reporting: Lab) -> None:
    send(reporting, 60)
    done = reporting("events", "dut0", "plain", "-c", "1", "--type", "plain=struct seen", "--json")
    record = rows(done.out)[0]
    assert (record["type"], record["type_by"]) == ("struct seen", "asked")
    assert record["value"]["length"] == 1
    assert record["data"] == "0400000000000000"  # what lies behind it
    wrong = reporting("events", "dut0", "plain", "--type", "seem", code=3)
    assert wrong.error == "the program's BTF has no type 'seem'; did you mean seen?"
    wrong = reporting("events", "dut0", "plain", "--type", "declared=seen", code=2)
    assert "no buffer 'declared' is read" in wrong.error


def test_hex_where_nothing_is_known(lab: Lab) -> None:
    source = SOURCE.replace("const struct other *unused_other __attribute__((unused));", "")
    lab.attach("xdp", "dut0", lab.compiled(source, "reporting"))
    send(lab, 60)
    done = lab("events", "dut0", "plain", "-c", "1")
    assert done.lines[0].split(None, 1)[1].startswith("01 00 00 00 00 00 00 00 02 00 00 00 03")
    assert "plain: records of 24 bytes: in hex: no struct has 24 bytes" in done.err


def test_two_structs_of_a_size_are_named_and_none_is_taken(lab: Lab) -> None:
    twin = (
        "struct twin { __u64 a, b, c; };\nconst struct twin *unused_twin __attribute__((unused));\n"
    )
    source = SOURCE.replace("const struct other *", f"{twin}const struct other *", 1)
    lab.attach("xdp", "dut0", lab.compiled(source, "twins"))
    send(lab, 60)
    done = lab("events", "dut0", "plain", "-c", "1", "--json")
    assert rows(done.out)[0]["type"] is None
    assert "in hex: 2 structs have 24 bytes: struct twin, struct other; --type NAME" in done.err


# --- where ---


def test_perf_records_with_what_follows_the_type(reporting: Lab) -> None:
    running = reporting.spawn("events", "dut0", "sampled", "-c", "1", "--json", "--type", "other")
    with running:
        assert running.stderr
        assert (
            running.stderr.readline() == "netbpf: sampled: perf buffer of reporting on dut0 xdp\n"
        )
        send(reporting, 60)
        out, _ = running.communicate()
    record, end = rows(out)
    assert record["value"]["four"] == 4
    # 14 bytes of the packet, and what the kernel fills up with.
    assert bytes.fromhex(record["data"])[:14] == bytes(12) + b"\x08\x00"
    assert isinstance(record["cpu"], int)
    assert (end["records"], end["lost"]) == (1, 0)
    assert running.returncode == 0


def test_several_at_once_are_told_apart(reporting: Lab) -> None:
    send(reporting, 60)
    done = reporting("events", "dut0", "declared", "plain", "-c", "2")
    assert sorted(line.split()[1] for line in done.lines) == ["declared", "plain"]


def test_members_of_a_chain(lab: Lab) -> None:
    first = lab.compiled(SOURCE.replace("XDP_DROP", "XDP_PASS"), "first")
    lab.attach("xdp", "dut0", first, "--name", "one")
    lab.attach("xdp", "dut0", lab.compiled(SOURCE, "second"), "--name", "two")
    send(lab, 60)
    # Both have a map of this name; and a chain's own BTF has none of these types.
    done = lab("events", "dut0", "two.declared", "-c", "1", "--json")
    assert rows(done.out)[0]["value"]["src_ip"] == "10.0.0.7"
    assert rows(done.out)[0]["program"] == "two"
    done = lab("events", "dut0", "declared", "-c", "1", "--json")
    assert rows(done.out)[0]["program"] == "one"


def test_a_program_behind_a_tail_call(lab: Lab) -> None:
    source = SOURCE.replace("int reporting(", "int behind(").replace(
        "char _license",
        """struct {
	__uint(type, BPF_MAP_TYPE_PROG_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__array(values, int (void *));
} next SEC(".maps") = { .values = { [0] = (void *)&behind } };

SEC("xdp")
int front(struct xdp_md *ctx)
{
	bpf_tail_call(ctx, &next, 0);
	return XDP_ABORTED;
}

char _license""",
    )
    lab.attach("xdp", "dut0", lab.compiled(source, "calling"), "--program", "front")
    send(lab, 60)
    done = lab("events", "dut0", "declared", "-c", "1", "--json")
    record = rows(done.out)[0]
    assert (record["program"], record["value"]["length"]) == ("behind", 60)


def test_by_id_and_pin(reporting: Lab, tmp_path: Path) -> None:
    stats = reporting("stats", "dut0", "--json").json["hooks"][0]
    number = next(one["id"] for one in stats["maps"] if one["name"] == "declared")
    send(reporting, 60, 60)
    assert rows(run_cli("events", number, "-c", "1", "--json").out)[0]["value"]["length"] == 60
    bpffs = tmp_path / "bpf"
    bpffs.mkdir()
    subprocess.run(["mount", "-t", "bpf", "bpf", bpffs], check=True)
    try:
        run_cli("map", "pin", number, bpffs / "events")
        done = run_cli("events", bpffs / "events", "-c", "1", "--json")
        assert rows(done.out)[0]["value"]["length"] == 60
        assert "of reporting\n" in done.err
    finally:
        subprocess.run(["umount", "-l", bpffs], check=True)


WRONG = [
    (("dut0", "declard"), 3, "no map 'declard' on dut0; did you mean declared"),
    (("dut0", "--hex", "--type", "seen"), 2, "--hex and --type cannot both be meant"),
    (("dut0", "plain", "--scale", "log2"), 2, "--scale and --every are for histograms"),
    (("dut0", "lengths", "--hex"), 2, "a map with entries is drawn as a histogram"),
    (("4294967295",), 8, "map 4294967295 does not exist any more"),
    (("17", "name"), 2, "17 is one map already"),
    (("dut9",), 6, "no interface 'dut9'"),
]


def test_what_makes_no_sense(reporting: Lab) -> None:
    for words, code, message in WRONG:
        assert message in reporting("events", *words, code=code).error


def test_no_program_and_no_buffer(lab: Lab) -> None:
    assert lab("events", "dut0", code=8).error == "no XDP or TC program on dut0"
    lab.attach("xdp", "dut0", "builtin:xdp_count")
    error = lab("events", "dut0", code=8).error
    assert error == "no program on dut0 has a ring or perf buffer; other maps: netbpf stats dut0"


# --- losses and other readers ---


@pytest.fixture(scope="module")
def loaded() -> Iterator[Outputs]:
    with outputs() as found:
        yield found


def high_water(pid: int) -> int:
    """The most memory a process has had, in KiB."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:"))


def drained(ring: RingBuffer) -> None:
    """Return once another reader has taken everything."""
    while ring.pending:
        os.sched_yield()


def test_a_flood_stays_in_bounds_and_is_counted(loaded: Outputs, tmp_path: Path) -> None:
    """A million records through a buffer of one page: those that come and those that are lost are all of them."""
    before, one, written = loaded.lost, loaded.map("ring"), tmp_path / "out"
    with (
        written.open("w") as out,
        listening("events", one.info.id, "--json", stdout=out) as running,
    ):
        with RingBuffer(one) as ring:  # only looked at: one that reads nothing takes nothing
            loaded.ring(b"first")
            drained(ring)
            small = high_water(running.pid)
            loaded.ring(b"flooded!" * 4, times=1_000_000)
            drained(ring)
            large = high_water(running.pid)
        running.send_signal(signal.SIGINT)
        assert running.stderr
        err = running.stderr.read()
    assert running.returncode == 0
    end = json.loads(written.read_text().splitlines()[-1])
    printed = written.read_text().count('"record"')
    assert end["records"] == printed
    assert end["lost"] == loaded.lost - before > 0
    assert end["records"] + end["unshown"] + end["lost"] == 1_000_001
    assert large - small < 16 * 1024
    assert f"{end['lost']:,} lost (counted by the program in lost)" in err


def test_losses_that_nobody_counts_are_not_denied(reporting: Lab) -> None:
    send(reporting, *[60] * 200)
    with netbpf.events("dut0", "plain", netns=reporting.netns) as events:
        first = events.read(0)
        assert 0 < len(first) < 200
        send(reporting, *[60] * 200)
        assert events.read(0)
        [source] = events.sources
        assert (source.lost().records, source.lost().full) == (None, 1)


def test_another_reader_keeps_its_records(loaded: Outputs) -> None:
    number = loaded.map("ring").info.id
    with listening("events", number) as first:
        done = subprocess.Popen(
            [sys.executable, "-m", "netbpf", "events", str(number), "-c", "1"], cwd=ROOT, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip
        with done as second:
            assert second.stderr
            line = second.stderr.readline()
            assert f"; read along with python ({first.pid}), which empties it (--take" in line
            assert first.stdout
            while second.poll() is None:
                # What the first has taken before the second looked is gone for that one: so again.
                loaded.ring(b"shared")
                assert first.stdout.readline().endswith("73 68 61 72 65 64\n")
            assert second.returncode == 0
        first.send_signal(signal.SIGTERM)
        assert "0 lost" in first.communicate()[1]
    assert first.returncode == 143


def test_a_perf_buffer_is_not_taken_in_silence(loaded: Outputs) -> None:
    number = loaded.map("perf").info.id
    with listening("events", number) as first:
        done = run_cli("events", number)
        assert (done.code, "already has a reader" in done.error) == (7, True)
        with netbpf.events(number, take=True) as events:
            loaded.perf(b"mine")
            assert [one.data[:4] for one in events.read(5)] == [b"mine"]
        first.send_signal(signal.SIGINT)
        assert "0 records" in first.communicate()[1]
    assert first.returncode == 0


def test_the_reader_of_the_output_may_go(loaded: Outputs) -> None:
    with listening("events", loaded.map("ring").info.id) as running:
        assert running.stdout
        running.stdout.close()
        loaded.ring(b"nobody")
        loaded.ring(b"reads")
        assert running.wait() == 141


def test_a_terminal_is_not_steered(loaded: Outputs, capsys: pytest.CaptureFixture[str]) -> None:
    """Names and texts of others reach the screen escaped."""
    with RingBuffer(loaded.map("ring")) as ring:
        ring.read()
    loaded.ring(b"\x1b[2J")
    with contextlib.suppress(SystemExit):
        main(["events", str(loaded.map("ring").info.id), "-c", "1"])
    assert "\x1b" not in capsys.readouterr().out


# --- histograms ---


def test_a_histogram(reporting: Lab) -> None:
    assert reporting("events", "dut0", "lengths").out == "lengths: nothing counted yet\n"
    send(reporting, 70, 70, 430)
    assert reporting("events", "dut0", "lengths").out == (
        "lengths: 3 counted, bcc slots\n"
        f"   64 .. 127  2  {'*' * 40}\n"
        "  128 .. 255  0\n"
        f"  256 .. 511  1  {'*' * 20}\n"
    )
    found = reporting("events", "dut0", "lengths", "--scale", "linear", "--json").json
    [drawn] = found["histograms"]
    assert (drawn["scale"], drawn["total"], drawn["key"]) == ("linear", 3, None)
    assert drawn["slots"] == [
        {"low": 7, "high": 7, "count": 2},
        {"low": 8, "high": 8, "count": 0},
        {"low": 9, "high": 9, "count": 1},
    ]
    rounds = reporting("events", "dut0", "lengths", "--every", "0.05", "-c", "2", "--json")
    assert len(rows(rounds.out)) == 2
