"""What a failing test shows, and what it leaves in files."""

import re
from pathlib import Path

import pytest

from netbpf.packets.capture import open_capture
from tests.plugin.conftest import Run
from tests.support.compiling import compile_c

pytestmark = pytest.mark.requires("root")

REFUSED = """
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
SEC("xdp") int refused(struct xdp_md *ctx) { return *(char *)(long)ctx->data; }
char _license[] SEC("license") = "GPL";
"""
FAILING = """
    import pytest
    PACKET = bytes(12) + b"\\x88\\xb6" + bytes(46)

    @pytest.mark.attach_kinds({kinds})
    def test_it(rig):
        rig.attach({{"xdp": "builtin:xdp_count", "tc": "builtin:tc_count"}})
        rig.send(PACKET, PACKET)
        rig.passed.packets()
        rig.send(PACKET)
        rig.assert_verdict("drop", PACKET)

    def test_that_passes(bench):
        bench("builtin:xdp_count").run(PACKET)
"""


def packets(path: Path) -> list[bytes]:
    with open_capture(path) as capture:
        return [block.packet(n) for block in capture.blocks() for n in range(len(block.numbers))]


def named(result: pytest.RunResult, what: str) -> Path:
    """The file that the output names."""
    found = re.search(rf"^{what}: +(\S+)", result.stdout.str(), re.MULTILINE)
    assert found, result.stdout.str()
    return Path(found[1])


def test_test_run_shows_verdicts_counters_files_and_the_command(run: Run) -> None:
    result = run(FAILING.format(kinds="'xdp-testrun'"))
    result.assert_outcomes(failed=1, passed=1)
    result.stdout.fnmatch_lines(
        [
            "E * expected verdict drop of xdp_count for 1 packet; not so for",
            "*netns_fixtures*",
            "verdicts:",
            "  pass       4  *####",
            "counters of xdp_count (xdp-testrun) since it was loaded:",
            "  protocols?other?.packets  0 -> 4 (+4)",
            "packets:*packets.pcapng (4 sent, seen or run)",
            "verifier log:*1-xdp_count.verifier.log",
            "again:        python -m pytest 'test_it.py::test_it?xdp-testrun?'",
        ]
    )
    assert packets(named(result, "packets")) == [bytes(12) + b"\x88\xb6" + bytes(46)] * 4
    assert b"run: pass" in named(result, "packets").read_bytes()
    log = named(result, "verifier log").read_text()
    assert "processed " in log
    assert "exit" in log


def test_a_wire_shows_what_arrived_and_keeps_both_ends(run: Run, pytester: pytest.Pytester) -> None:
    result = run(FAILING.format(kinds="'tc-tcx'"), "--netns-keep=kept", "-p", "no:randomly")
    result.assert_outcomes(failed=1, passed=1)
    result.stdout.fnmatch_lines(
        [
            "*TrafficError: 1 packet that no expect() took*",
            "3 packets sent by peer0; 3 arrived at dut0",
        ]
    )
    path = named(result, "packets")
    assert path.parent.parent == pytester.path / "kept"
    assert len(packets(path)) == 6
    content = path.read_bytes()
    assert content.count(b"sent by peer0") == content.count(b"arrived at dut0") == 3
    assert sorted(one.name for one in path.parent.parent.iterdir()) == ["test_it.py_test_it_tc-tcx"]


def test_the_log_of_a_refused_program_is_kept(run: Run, pytester: pytest.Pytester) -> None:
    (pytester.path / "refused.o").write_bytes(compile_c(REFUSED))
    result = run(
        """
        def test_it(bench):
            bench("refused.o")
        """
    )
    result.assert_outcomes(failed=1)
    log = named(result, "verifier log")
    assert log.name == "rejected.verifier.log"
    assert "invalid access to packet" in log.read_text()


def test_a_test_that_passes_leaves_nothing(run: Run, pytester: pytest.Pytester) -> None:
    result = run(FAILING.format(kinds="'xdp-testrun'"), "--netns-keep=kept", "-k", "passes")
    result.assert_outcomes(passed=1)
    assert not (pytester.path / "kept").exists()


def test_workers_of_xdist_report_too(run: Run) -> None:
    result = run(FAILING.format(kinds="'testrun'"), "-n", "2")
    result.assert_outcomes(failed=2, passed=1)
    assert result.stdout.str().count("again:        python -m pytest") == 2
    assert named(result, "packets").exists()
