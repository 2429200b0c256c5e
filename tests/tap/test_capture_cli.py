"""``netbpf capture``: what it prints and writes, and how it ends."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import netbpf
from tests.cli.lab import ROOT, Lab, run_cli
from tests.cli.test_cli_chain_traffic import WAYS, attach, send
from tests.tap.capturing import capture, command, eventually, program, rest, signs, taken

XDP = WAYS["xdp-native"]


def tshark(path: Path, *fields: str) -> list[list[str]]:
    """Fields of every packet of a file, as Wireshark reads it."""
    words = [word for field in fields for word in ("-e", field)]
    done = subprocess.run(
        ["tshark", "-r", path, "-T", "fields", *words], capture_output=True, text=True, check=True
    )
    return [line.split("\t") for line in done.stdout.splitlines()]


def test_text(lab: Lab) -> None:
    """A line for each packet; the counts on standard error; the hook as it was."""
    attach(lab, XDP, "acl", stop=1111)
    before = program(lab)
    with command(lab, "dut0", "udp", "and", "not", "port", "9") as running:
        send(lab, XDP, 1, 1111)
        send(lab, XDP, 1)
        send(lab, XDP, 1, 9)
        assert running.stdout is not None
        lines = [running.stdout.readline() for _ in range(2)]
        running.send_signal(signal.SIGINT)
        out, err = running.communicate()
    assert [line.partition(" ")[2] for line in lines] == [
        "drop acl: IP 10.0.0.1.1000 > 10.0.0.2.1111: UDP, length 58\n",
        "pass acl: IP 10.0.0.1.1000 > 10.0.0.2.4000: UDP, length 58\n",
    ]
    assert (running.returncode, out) == (0, "")
    assert err == (
        "3 came, 2 matched\nverdicts of these: pass 1, drop 1\n"
        "2 captured, 0 lost for want of room in the buffer\n"
    )
    assert program(lab) == before


def test_json(lab: Lab) -> None:
    """An object for each packet, and one with the counts."""
    attach(lab, XDP, "acl", stop=1111)
    with command(lab, "dut0", "--json", "-c", 2, "--snaplen", 20) as running:
        send(lab, XDP, 2, 1111)
        out, _ = running.communicate()
    *packets, last = map(json.loads, out.splitlines())
    assert {one["schema"] for one in (*packets, last)} == {"netbpf.capture/1"}
    [first, _] = [one["packet"] for one in packets]
    assert (first["verdict"], first["member"], first["length"]) == ("drop", "acl", 100)
    assert (first["captured"], len(first["data"])) == (20, 40)
    assert last["counts"] == {
        "seen": 2, "matched": 2, "captured": 2, "lost": 0, "nested": 0, "verdicts": {"drop": 2},
        "ended": None,
    }  # fmt: skip


@pytest.mark.parametrize(("way", "name"), [("xdp-native", "XDP_DROP"), ("clsact", "shot")])
def test_a_file_for_wireshark(lab: Lab, tmp_path: Path, way: str, name: str) -> None:
    """Verdicts are where Wireshark's tools look for them."""
    attach(lab, WAYS[way], "acl", stop=1111)
    path = tmp_path / "found.pcapng"
    with command(lab, "dut0", "-w", path, "-c", 3) as running:
        send(lab, WAYS[way], 2, 1111)
        send(lab, WAYS[way], 1)
        running.communicate()
    words = f"verdict {WAYS[way].drop} by acl"
    rows = tshark(path, "frame.len", "udp.dstport", "frame.verdict", "frame.comment")
    assert [row[:2] for row in rows] == [["100", "1111"], ["100", "1111"], ["100", "4000"]]
    assert [row[3] for row in rows] == [words, words, f"verdict {WAYS[way].go_on} by acl"]
    shown = subprocess.run(["tshark", "-r", path, "-V"], capture_output=True, text=True, check=True)
    kind = "XDP" if way == "xdp-native" else "TC"
    assert shown.stdout.count(f"eBPF_{kind}") == 3 or shown.stdout.count(f"eBPF {kind}") == 3
    about = subprocess.run(["capinfos", "-M", path], capture_output=True, text=True, check=True)
    assert "Number of packets:   3" in about.stdout
    assert f"Name = dut0 {'xdp' if way == 'xdp-native' else 'tc/ingress'}" in about.stdout


def test_a_pipe_whose_reader_goes_away(lab: Lab) -> None:
    """A reader gets whole blocks as they come; when it goes, the hook is put back."""
    attach(lab, XDP, "acl")
    before = program(lab)
    with command(lab, "dut0", "-w", "-") as running:
        assert running.stdout is not None
        got = b""
        send(lab, XDP, 1)
        while len(got) < 250:
            got += os.read(running.stdout.fileno(), 65536)
        assert got.startswith(b"\x0a\x0d\x0d\x0a")
        assert b"verdict pass by acl" in got
        running.stdout.close()
        send(lab, XDP, 1)
        assert running.wait(20) == 128 + signal.SIGPIPE
        assert running.stderr is not None
        assert "netbpf: error" not in running.stderr.read()
    assert program(lab) == before


def test_a_reader_that_goes_away_though_nothing_matches(lab: Lab) -> None:
    """No capture stays on the hook behind a window that was closed."""
    attach(lab, XDP, "acl")
    before = program(lab)
    for words in (("-w", "-"), ()):
        with command(lab, "dut0", *words, "udp", "port", 9) as running:
            assert running.stdout is not None
            if words:  # which shows that Wireshark need not wait for the first packet
                assert os.read(running.stdout.fileno(), 65536).startswith(b"\x0a\x0d\x0d\x0a")
            running.stdout.close()
            assert running.wait(20) == 128 + signal.SIGPIPE
        assert program(lab) == before


def test_a_full_disk(lab: Lab, tmp_path: Path) -> None:
    """It ends with an error, and what was written can be read."""
    attach(lab, XDP, "acl")
    before = program(lab)
    disk = tmp_path / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", disk], check=True)
    try:
        with command(lab, "dut0", "-w", disk / "found.pcapng") as running:
            for _ in range(20):
                send(lab, XDP, 100)
            assert running.wait(20) == 1
            assert running.stderr is not None
            assert "netbpf: error: cannot write" in running.stderr.read()
        assert program(lab) == before
        assert len(tshark(disk / "found.pcapng", "frame.verdict")) >= 100
    finally:
        subprocess.run(["umount", "-l", disk], check=True)


def test_the_interface_vanishes(lab: Lab) -> None:
    """It ends, and says so; down, it goes on."""
    with command(lab, "dut0") as running:
        assert running.stderr is not None
        lab.run("ip", "link", "set", "dut0", "down")
        assert "dut0 is down: nothing comes until it is up" in running.stderr.readline()
        lab.run("ip", "link", "del", "dut0")
        assert running.wait(20) == 0
        assert "interface dut0 is gone: the capture has ended" in running.stderr.read()
    assert not signs()
    assert lab("status").lines == ["no XDP or TC program"]


def test_somebody_else_empties_the_hook(lab: Lab) -> None:
    """It ends, and leaves nothing that would still be taken for a program."""
    with command(lab, "dut0") as running:
        lab.run("ip", "link", "set", "dut0", "xdp", "off")
        assert running.wait(20) == 0
        assert running.stderr is not None
        assert (
            "dut0 xdp: what ran there was taken off: the capture has ended" in running.stderr.read()
        )
    assert "no XDP or TC program" in lab("detach", "dut0", code=8).error


@pytest.fixture
def elsewhere() -> Iterator[str]:
    """A namespace with a name, as an interface can only be found in one that has a name or a process."""
    name = f"netbpf-test-{os.getpid()}"
    subprocess.run(["ip", "netns", "add", name], check=True)
    try:
        yield name
    finally:
        subprocess.run(["ip", "netns", "del", name], check=True)


@pytest.mark.parametrize("killed", [False, True], ids=["ended", "killed"])
@pytest.mark.parametrize("way", ["xdp-native", "tcx", ""], ids=["xdp", "tcx", "empty"])
def test_the_interface_moves(lab: Lab, elsewhere: str, way: str, killed: bool) -> None:
    """To another namespace: the capture ends, and there, too, the hook runs again what it ran before."""
    if way:
        attach(lab, WAYS[way], "acl", *WAYS[way].options)
    before = program(lab)
    with command(lab, *(("tc",) if way == "tcx" else ()), "dut0") as running:
        if killed:
            for one in watchers():
                os.kill(one, signal.SIGKILL)
            running.kill()
            running.wait()
        lab.run("ip", "link", "set", "dut0", "netns", elsewhere)
        assert killed or running.wait(20) == 0
    if killed:
        # The program of before was kept by those who were killed: an equal one is made.
        done = lab("attach", "xdp", "lo", "builtin:xdp_count", "--mode", "skb")
        assert f"the capture of process {running.pid}, which was killed, is gone" in done.err
    found = netbpf.status(netns=elsewhere)
    assert [each.taps for each in found] == [()] * bool(way)
    assert killed or [each.program.id for each in found] == [before] * bool(way)
    assert not signs()
    assert run_cli("detach", "--all", "--ignore-missing", "--netns", elsewhere).code == 0


@pytest.mark.parametrize("way", ["xdp-native", "xdp-link", "tcx", "egress"])
def test_killed(lab: Lab, way: str) -> None:
    """SIGKILL: the very program comes back by itself, and nothing stays behind."""
    attach(lab, WAYS[way], "acl", *WAYS[way].options)
    before = program(lab)
    with command(lab, *(() if way.startswith("x") else ("tc",)), "dut0") as running:
        assert program(lab) != before
        running.kill()
        running.wait()
        eventually(lab, before)
    send(lab, WAYS[way], 1)
    assert lab.get("dut0", "seen") == 1


DIES = """
import os, signal, sys
import netbpf
from netbpf.tap.watch import Watch
Watch.tapped = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
netbpf.capture("dut0", netns=sys.argv[1])
"""


@pytest.mark.parametrize("members", [("acl",), ()], ids=["a-program", "nothing"])
def test_killed_before_it_knows_that_it_runs(lab: Lab, members: tuple[str, ...]) -> None:
    """Directly after the hook was changed."""
    for one in members:
        attach(lab, XDP, one)
    before = program(lab)
    done = subprocess.run([sys.executable, "-c", DIES, lab.netns], cwd=ROOT, check=False)
    assert done.returncode == -signal.SIGKILL
    eventually(lab, before)


def test_killed_on_an_empty_hook(lab: Lab) -> None:
    """Nothing is left there."""
    with command(lab, "dut0") as running:
        assert program(lab)
        running.kill()
        running.wait()
        eventually(lab, 0)


def watchers() -> set[int]:
    """The processes that watch over captures of this test."""
    mine = os.environ["NETBPF_STATE_DIR"].encode()
    found = set()
    for one in Path("/proc").iterdir():
        try:
            words = (one / "cmdline").read_bytes() if one.name.isdecimal() else b""
            if b"netbpf.tap.watcher" in words and mine in (one / "environ").read_bytes():
                found.add(int(one.name))
        except OSError:
            continue
    return found


@pytest.mark.parametrize("members", [("acl",), ("acl", "count")], ids=["alone", "chain"])
def test_killed_with_its_watcher(lab: Lab, members: tuple[str, ...]) -> None:
    """The next command that changes hooks puts it back, and says so; members go on with their maps and counts."""
    for name in members:
        attach(lab, XDP, name, stop=1111)
    with command(lab, "dut0") as running:
        assert not lab.hooks("dut0")[0]["captures"][0]["ended"]
        assert "has ended" not in lab("status", "dut0").out
        [watcher] = watchers()
        os.kill(watcher, signal.SIGKILL)
        running.kill()
        running.wait()
    send(lab, XDP, 1, 1111)
    [tap] = lab.hooks("dut0")[0]["captures"]
    assert (tap["pid"], tap["ended"]) == (running.pid, True)
    told = f"the capture by process {running.pid} has ended; the next netbpf command that changes something"
    assert told in lab("status", "dut0").out
    done = lab("attach", "tc", "dut0", "builtin:tc_count")
    assert f"the capture of process {running.pid}, which was killed, is gone" in done.err
    [xdp] = [one for one in lab.hooks("dut0") if one["hook"] == "xdp"]
    assert "captures" not in xdp
    assert tuple(one["name"] for one in xdp["members"]) == members
    assert not signs()
    send(lab, XDP, 1, 1111)
    assert lab.get("dut0", "acl.seen") == 2
    if len(members) > 1:
        [hook] = lab("chain", "xdp", "dut0", "--json").json["hooks"]
        assert hook["members"][0]["verdicts"] == {"drop": 2}
    else:
        assert xdp["program"]["name"] == "xdp_member"


def test_a_change_waits_for_its_confirmation(lab: Lab) -> None:
    """No capture begins then; one that ends meanwhile leaves the way back open, and goes once that is decided."""
    attach(lab, XDP, "acl", stop=1111)
    with capture(lab) as packets:
        attach(lab, XDP, "count", "--confirm", "1h")
        send(lab, XDP, 1)
        taken(packets, 1)
        done = lab("capture", "dut0", code=7)
        assert "waits for its confirmation" in done.error
        assert rest(packets) == []
    lab("confirm", "--undo")
    [hook] = lab.hooks("dut0")
    assert "captures" not in hook
    assert [one["name"] for one in hook["members"]] == ["acl"]
    assert hook["program"]["name"] == "xdp_member"


def test_losses_are_counted(lab: Lab) -> None:
    """What nobody reads is lost, and each is counted."""
    attach(lab, XDP, "acl")
    with capture(lab) as packets:
        for _ in range(20):
            send(lab, XDP, 500)
        found = rest(packets)
        counts = packets.summary()
    assert counts.matched == 10_000
    assert counts.lost > 0
    assert len(found) == counts.captured == 10_000 - counts.lost


def test_usage(lab: Lab) -> None:
    """What makes no sense is refused, with the place in the filter."""
    done = lab("capture", "dut0", "udp", "prt", "53", code=2)
    assert done.err.splitlines()[-3:-1] == ["  udp prt 53", "      ^^^"]
    assert "libpcap cannot compile the filter" in done.err
    assert "power of two" in lab("capture", "dut0", "--buffer", "3", code=2).error
    assert "--verdict names none" in lab("capture", "dut0", "--verdict", "", code=2).error
    # It is not said to run where its file cannot be written.
    [line] = lab("capture", "dut0", "-w", "/", code=1).err.splitlines()
    assert line == "netbpf: error: cannot write /: Is a directory"
    assert lab.hooks("dut0") == []
