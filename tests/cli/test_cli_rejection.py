"""A program that the verifier refuses, on the command line: text, JSON, -v, --log."""

import os
import re
from pathlib import Path

import pytest

from tests.cli.lab import Lab

HEAD = '#include <linux/bpf.h>\n#include <bpf/bpf_helpers.h>\nchar _license[] SEC("license") = "GPL";\n'
UNCHECKED = (
    HEAD
    + """
SEC("xdp")
int first_byte(struct xdp_md *ctx)
{
	unsigned char *data = (void *)(long)ctx->data;

	return data[0] == 1 ? XDP_DROP : XDP_PASS;
}
"""
)
LINE = 1 + UNCHECKED.split("\n").index("\treturn data[0] == 1 ? XDP_DROP : XDP_PASS;")


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "unchecked.bpf.c"
    path.write_text(UNCHECKED)
    return path


def test_the_line_the_story_and_the_way_out(lab: Lab, source: Path) -> None:
    done = lab("attach", "xdp", "dut0", source.name, code=4)
    assert done.out == ""
    assert done.err == (
        f"  unchecked.bpf.c:{LINE}, in first_byte()\n"
        f"  {LINE - 3:>5}  {{\n"
        f"  {LINE - 2:>5}      unsigned char *data = (void *)(long)ctx->data;\n"
        f"  {LINE - 1:>5}\n"
        f"> {LINE:>5}      return data[0] == 1 ? XDP_DROP : XDP_PASS;\n"
        f"  {LINE + 1:>5}  }}\n"
        f"  {LINE + 2:>5}\n"
        "\n"
        "       r1  a pointer into the packet; nothing of it compared with data_end\n"
        f"             {LINE - 2}: unsigned char *data = (void *)(long)ctx->data;\n"
        "\n"
        "  write  if ((void *)(eth + 1) > data_end)\n"
        "             return XDP_PASS;\n"
        "\n"
        "  verifier  invalid access to packet, off=0 size=1, R1(id=0,off=0,r=0)\n"
        "            R1 offset is outside of the packet\n"
        "\n"
        f"{done.err.splitlines()[-1]}\n"
    )
    assert re.fullmatch(
        r"netbpf: error: the verifier rejects program first_byte of \S+: the program reads byte 0 of the packet "
        rf"without comparing with data_end whether the packet has it \(unchecked\.bpf\.c:{LINE}\); "
        r"compare with data_end first, and leave where the packet is too short",
        done.err.splitlines()[-1],
    )


def test_verbose_shows_the_whole_log_before_it(lab: Lab, source: Path) -> None:
    short = lab("attach", "xdp", "dut0", source, code=4).err
    long = lab("attach", "xdp", "dut0", source, "-v", code=4).err
    log, _, rest = long.partition("\n\n")
    assert rest == short
    assert log.startswith("0: R1=ctx")
    assert "processed " in log.splitlines()[-1]


def test_the_log_goes_to_a_file(lab: Lab, source: Path, tmp_path: Path) -> None:
    shown = lab("attach", "xdp", "dut0", source, "-v", code=4).err.partition("\n\n")[0]
    done = lab("attach", "xdp", "dut0", source, "--log", tmp_path / "verifier.log", code=4)
    written = (tmp_path / "verifier.log").read_text()
    assert written.rstrip("\n") == shown
    assert "netbpf: error: the verifier rejects" in done.err


def test_a_log_file_that_cannot_be_written_hides_nothing(lab: Lab, source: Path) -> None:
    done = lab("attach", "xdp", "dut0", source, "--log", "nowhere/verifier.log", code=4)
    assert (
        "netbpf: note: cannot write nowhere/verifier.log: No such file or directory\n" in done.err
    )
    assert done.err.splitlines()[-1].startswith("netbpf: error: the verifier rejects")


def test_no_log_file_where_nothing_was_rejected(lab: Lab, tmp_path: Path) -> None:
    lab("attach", "xdp", "dut0", "builtin:xdp_count", "--log", tmp_path / "verifier.log")
    assert not (tmp_path / "verifier.log").exists()


def test_json_has_the_explanation(lab: Lab, source: Path) -> None:
    error = lab("attach", "xdp", "dut0", source.name, "--json", code=4).json["error"]
    found = error["explanation"]
    assert error["type"] == "VerifierError"
    assert found["reason"] in error["message"]
    assert found["id"] == "packet-unchecked"
    assert found["source"]["line"] == LINE
    assert found["source"]["text"] == "return data[0] == 1 ? XDP_DROP : XDP_PASS;"
    assert found["function"] == "first_byte"
    assert found["registers"][0]["subject"] == "r1"
    assert found["registers"][0]["source"]["line"] == LINE - 2
    assert "data_end" in found["advice"]
    assert "data_end" in found["code"]
    assert found["verifier"][-1] == "R1 offset is outside of the packet"


def test_other_errors_have_no_explanation(lab: Lab) -> None:
    error = lab("attach", "xdp", "nowhere0", "builtin:xdp_count", "--json", code=6).json["error"]
    assert "explanation" not in error


def test_an_object_without_line_info(lab: Lab) -> None:
    path = lab.compiled(UNCHECKED, "unchecked", debug=False)
    done = lab("attach", "xdp", "dut0", path, code=4)
    assert done.err.startswith(
        "  instruction 1: (71) r1 = *(u8 *)(r1 +0)\n\n       r1  a pointer into the packet"
    )
    assert "without comparing with data_end" in done.err


def test_hostile_names_are_escaped(lab: Lab, tmp_path: Path) -> None:
    source = tmp_path / "hostile.bpf.c"
    source.write_text(
        HEAD
        + '#line 1 "\\033[31mred\\nnetbpf: error: all is well.c"\n'
        + 'SEC("xdp") int first(struct xdp_md *ctx) { return *(char *)(long)ctx->data; } /* \x1b[2J'
        + "x" * 4096
        + " */\n"
    )
    done = lab("attach", "xdp", "dut0", source, code=4)
    assert "\x1b" not in done.err
    assert done.err.count("\nnetbpf: error:") == 1
    assert max(map(len, done.err.splitlines()[:-1])) < 200
    assert "\x1b" not in lab("attach", "xdp", "dut0", source, "-v", code=4).err


def test_colours_only_on_a_terminal(lab: Lab, source: Path) -> None:
    def on_terminal(**environment: str) -> bytes:
        master, slave = os.openpty()
        with open(slave, "wb") as terminal:
            clean = {name: value for name, value in os.environ.items() if name != "NO_COLOR"}
            running = lab.spawn(
                "attach", "xdp", "dut0", source, stderr=terminal, env={**clean, **environment}
            )
            with running:
                assert running.wait(30) == 4
        with open(master, "rb", buffering=0) as reader:
            return reader.read(65536) or b""

    assert b"\x1b[1m> " in on_terminal(TERM="xterm")
    assert b"\x1b[" not in on_terminal(TERM="xterm", NO_COLOR="1").replace(b"\x1b[?25", b"")
