"""``netbpf trace``: each line with the program that printed it, whoever else reads, and whatever comes and goes."""

import json
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import netbpf
from netbpf._sys.bpf import prog_test_run
from netbpf.bpf.loader import Loaded, load
from netbpf.bpf.object import ObjectSpec
from netbpf.listen.trace import Trace, TraceLine
from tests.cli.lab import ROOT, Lab, run_cli
from tests.support.compiling import compile_c

# The file and line of what follows are set by #line, so that they are known.
SOURCE = """
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#line 10 "printing.bpf.c"
static __attribute__((noinline)) int below(int a) { bpf_printk("below NAME %d", a); return a; }
SEC("xdp")
int NAME(struct xdp_md *ctx)
{
	char clear[] = "\\x1b[2J"; /* a format cannot have it */
	bpf_printk("in NAME %s %d\\n", clear, ctx->ingress_ifindex);
	below(7);
	return XDP_PASS;
}
char _license[] SEC("license") = "GPL";
"""


def loaded(name: str) -> Loaded:
    spec = ObjectSpec(compile_c(SOURCE.replace("NAME", name), name=name))
    return load(spec, spec.programs[0], None)


def run(one: Loaded, times: int = 1) -> None:
    prog_test_run(one.program.fd.fileno(), bytes(64), repeat=times)


def ours(trace: Trace, name: str, count: int) -> list[TraceLine]:
    """So many lines that mention a name: other programs of the machine print too."""
    found: list[TraceLine] = []
    while len(found) < count:
        came = trace.read(10)
        assert came, f"only {len(found)} lines came"
        found += [one for one in came if f" {name} " in one.text]
    return found


def rows(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


def test_lines_have_program_function_and_source() -> None:
    with loaded("printer") as one, netbpf.trace() as trace:
        run(one)
        first, second = ours(trace, "printer", 2)
        number = one.program.info.id
    assert first.place
    assert second.place
    assert first.text == "in printer \x1b[2J 1"
    assert (first.place.program_id, first.place.program) == (number, "printer")
    assert (first.place.function, Path(first.place.file).name) == ("printer", "printing.bpf.c")
    assert first.place.line == 15
    assert (second.place.program_id, second.place.function, second.place.line) == (
        number,
        "below",
        10,
    )
    assert 0 < second.time_ns - first.time_ns < 1_000_000_000


def test_programs_that_come_and_go_while_it_listens() -> None:
    """The kernel gives the addresses of one that is gone to the next; each line still has its own program."""
    with netbpf.trace() as trace:
        for number in range(8):
            name = f"going{number}"
            with loaded(name) as one:
                run(one)
                found = ours(trace, name, 2)
            assert [line.place and line.place.program for line in found] == [name, name]


def test_two_readers_both_have_every_line() -> None:
    with loaded("shared") as one, netbpf.trace() as first, netbpf.trace() as second:
        run(one, 3)
        texts = [[line.text for line in ours(trace, "shared", 6)] for trace in (first, second)]
    assert texts[0] == texts[1]


def test_a_filter_by_program() -> None:
    with loaded("wanted") as one, loaded("other") as two, netbpf.trace(program="wanted") as trace:
        run(two)
        run(one)
        run(two)
        found = trace.read(10)
        assert {line.text.split()[1] for line in found} == {"wanted"}
    with loaded("wanted") as one, netbpf.trace(program=one.program.info.id) as trace:
        run(one)
        assert len(trace.read(10)) == 2
    with loaded("wanted") as one, netbpf.trace(program="below") as trace:
        run(one)
        assert {line.place and line.place.function for line in trace.read(10)} == {"below"}


def test_a_flood_is_lost_and_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("netbpf.listen.trace._PAGES", 1)
    with loaded("flooding") as one, netbpf.trace(program="flooding") as trace:
        run(one, 2000)
        assert trace.lost > 0
        assert len(trace.read(10)) < 4000
        run(one)
        # Loads may be among what was lost, so all is looked at anew, and lines are told apart again.
        last = trace.read(10)[-1]
        assert last.place
        assert last.place.program == "flooding"


def send(lab: Lab) -> None:
    def now() -> None:
        with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as wire:
            wire.bind(("peer0", 0))
            wire.send(bytes(64))

    lab.wire.peer.run(now)


def listening(lab: Lab, *words: object) -> subprocess.Popen[str]:
    running = lab.spawn("trace", *words)
    assert running.stderr
    line = running.stderr.readline()
    assert line == "netbpf: listening to bpf_printk()\n", line
    return running


def test_the_command_on_an_interface(lab: Lab) -> None:
    lab.attach("xdp", "dut0", lab.compiled(SOURCE.replace("NAME", "attached"), "attached"))
    with loaded("elsewhere") as other, listening(lab, "dut0", "-c", "2") as running:
        run(other)
        send(lab)
        out, err = running.communicate()
    assert running.returncode == 0
    number = lab.hooks()[0]["program"]["id"]
    lines = [line.split("  ", 1)[1] for line in out.splitlines()]
    assert lines[0].startswith(
        f"dut0 xdp  attached[{number}] printing.bpf.c:15  in attached \\x1b[2J "
    )
    assert lines[1] == f"dut0 xdp  attached[{number}] below() printing.bpf.c:10  below attached 7"
    # Programs of others may print too, and be gone before anybody can look at them.
    assert err.startswith("netbpf: 2 lines, 0 lost")


def test_members_of_a_chain(lab: Lab) -> None:
    for name in ("one", "two"):
        lab.attach(
            "xdp", "dut0", lab.compiled(SOURCE.replace("NAME", f"m_{name}"), name), "--name", name
        )
    with listening(lab, "dut0", "-c", "4", "--json") as running:
        send(lab)
        out, _ = running.communicate()
    *found, end = rows(out)
    assert [one["text"].split()[1] for one in found] == ["m_one", "m_one", "m_two", "m_two"]
    assert [found[0]["member"], found[2]["member"]] == ["one", "two"]
    assert {one["hooks"][0] for one in found} == {"dut0 xdp"}
    assert (end["event"], end["lines"], end["lost"]) == ("end", 4, 0)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 0), (signal.SIGTERM, 143)])
def test_it_ends_with_its_counts(lab: Lab, number: int, code: int) -> None:
    with listening(lab, "--program", "nobody", "--json") as running:
        running.send_signal(number)
        out, err = running.communicate()
    assert running.returncode == code
    assert rows(out)[-1]["lines"] == 0
    assert "netbpf: 0 lines, 0 lost" in err


def test_what_makes_no_sense(lab: Lab) -> None:
    assert lab("trace", "dut0", code=8).error == "no XDP or TC program on dut0"
    assert "no interface 'dut9'" in lab("trace", "dut9", code=6).error


def test_capabilities_are_named() -> None:
    """As a user without any."""
    done = subprocess.run(
        ["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups", sys.executable, "-m", "netbpf", "trace"],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 10, done.stderr
    assert "no permission to look up tracepoints (tracefs): CAP_SYS_ADMIN is missing" in done.stderr


def test_nothing_is_taken_from_the_trace(tmp_path: Path) -> None:
    """The kernel's own buffer, which trace_pipe empties, keeps the line."""
    mounted = tmp_path / "tracing"
    mounted.mkdir()
    subprocess.run(["mount", "-t", "tracefs", "tracefs", mounted], check=True)
    try:
        with loaded("keeping") as one, netbpf.trace(program="keeping") as trace:
            run(one)
            assert len(trace.read(10)) == 2
        assert "in keeping " in (mounted / "trace").read_text(errors="replace")
    finally:
        subprocess.run(["umount", "-l", mounted], check=True)


def test_help_names_what_it_does() -> None:
    assert "No line is taken" in " ".join(run_cli("trace", "--help").out.split())
