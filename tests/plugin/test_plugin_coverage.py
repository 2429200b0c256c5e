"""``--netbpf-coverage``: what the tests of another project reach of its programs, in one process and in several."""

import json
from pathlib import Path

import pytest

from tests.plugin.conftest import Run

pytestmark = pytest.mark.requires("root")

SOURCE = """\
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
__u64 large;
SEC("xdp") int guard(struct xdp_md *ctx)
{
	if (ctx->data_end - ctx->data < 100)
		return XDP_PASS;
	large++;
	if (ctx->rx_queue_index > 4)
		bpf_ktime_get_ns();
	return XDP_DROP;
}
char _license[] SEC("license") = "GPL";
"""
TESTS = """
    import pytest

    def test_small(bench):
        program = bench("guard.bpf.c")
        with program.changes({}):
            program.assert_verdict("pass", bytes(60))

    def test_large(bench):
        program = bench("guard.bpf.c")
        with program.changes({"large": 1}):
            program.assert_verdict("drop", bytes(200))

    @pytest.mark.attach_kinds("xdp-native")
    def test_on_a_wire(rig):
        rig.attach("guard.bpf.c")
        rig.send(bytes(60))
        rig.expect(bytes(60))
"""


@pytest.fixture(autouse=True)
def source(pytester: pytest.Pytester) -> None:
    (pytester.path / "guard.bpf.c").write_text(SOURCE)


SOURCES = ("--netbpf-coverage-source", "guard.bpf.c")


def test_what_the_tests_of_one_process_reach(run: Run) -> None:
    """Nothing else changes for them: counters, leaks and verdicts are those of the program."""
    files = ("--netbpf-coverage-html", "pages", "--netbpf-coverage-lcov", "trace.info")
    result = run(
        TESTS, "--netbpf-coverage", *SOURCES, *files, "--netbpf-coverage-min", "99", ini="netns_leak_check = test"
    )  # fmt: skip
    result.assert_outcomes(passed=3)
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines([
        "*coverage of BPF programs*", "coverage * not reached", "  guard.bpf.c * 10",
        "80.0 % of the lines were reached; 99 % are asked for",
    ])  # fmt: skip
    assert Path("pages/index.html").exists()
    lines = Path("trace.info").read_text().splitlines()
    assert {"DA:6,3", "DA:8,1", "DA:10,0"} <= set(lines)


def test_workers_of_xdist_add_up_and_one_that_dies_is_named(run: Run) -> None:
    dies = f"{TESTS}\n    def test_dies():\n        import os\n        os._exit(3)\n"
    result = run(
        dies, "-n", "2", "--netbpf-coverage", *SOURCES, "--netbpf-coverage-data", "kept.json", "--netbpf-coverage-min",
        "10", "-p", "no:faulthandler",
    )  # fmt: skip
    result.assert_outcomes(passed=3, failed=1)
    result.stdout.fnmatch_lines(
        ["gw* ended without handing in its coverage: what only its tests reached is missing above"]
    )
    kept = json.loads(Path("kept.json").read_text())
    [file] = kept["files"]
    assert {one["line"] for one in file["lines"]} >= {6, 8, 10}
    assert next(one["count"] for one in file["lines"] if one["line"] == 6) in (1, 2, 3)
