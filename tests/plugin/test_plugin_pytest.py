"""The plugin as other projects see it: ids, skips, failures, leaks, and what it costs to have it installed."""

import subprocess
import sys

import pytest

from netns_fixtures import requirements
from netns_fixtures.kinds import GROUPS, KINDS, chosen
from tests.plugin.conftest import Run

pytestmark = pytest.mark.requires("root")


# --- costs nothing until used ------------------------------------------------------------------


def test_importing_the_plugin_imports_nothing_else() -> None:
    code = (
        "import pytest, sys; before = set(sys.modules); import netns_fixtures.plugin\n"
        "print(*sorted({name.partition('.')[0] for name in set(sys.modules) - before}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["netns_fixtures"]


def test_a_run_without_its_fixtures_imports_nothing_of_it(run: Run) -> None:
    result = run(
        """
        import sys

        def test():
            heavy = {"netbpf", "scapy", "pyroute2", "netns_fixtures.topology", "netns_fixtures.residue"}
            assert not heavy & set(sys.modules)
        """
    )
    result.assert_outcomes(passed=1)


def test_scapy_and_pyroute2_are_only_for_those_who_need_them(run: Run) -> None:
    result = run(
        """
        import sys

        def test(rig):
            rig.send(bytes(60))
            rig.expect(bytes(60))
            assert "scapy" not in sys.modules
        """
    )
    result.assert_outcomes(passed=4)


# --- kinds -------------------------------------------------------------------------------------

LIST = """
    import pytest

    def test_default(rig): ...

    @pytest.mark.attach_kinds({kinds})
    def test_chosen(attach_kind): ...
"""


def collected(result: pytest.RunResult) -> list[str]:
    return [line.partition("::")[2] for line in result.outlines if "::" in line]


@pytest.mark.parametrize(
    ("kinds", "args", "ids"),
    [
        ("'xdp'", (), ["xdp-native", "xdp-skb"]),
        ("'tc'", (), ["tc-clsact", "tc-tcx"]),
        ("'tc-egress'", (), ["tc-clsact-egress", "tc-tcx-egress"]),
        ("'all'", (), [kind.id for kind in GROUPS["all"]]),
        ("'testrun'", (), ["xdp-testrun", "tc-testrun"]),
        ("'everywhere'", (), list(KINDS)),
        ("'everywhere'", ("--attach-kinds=testrun",), ["xdp-testrun", "tc-testrun"]),
        ("'tc-tcx', 'xdp', 'xdp-skb'", (), ["tc-tcx", "xdp-native", "xdp-skb"]),
        ("'all'", ("--attach-kinds=tc,xdp-skb",), ["xdp-skb", "tc-clsact", "tc-tcx"]),
    ],
)
def test_a_test_runs_once_per_kind(
    run: Run, kinds: str, args: tuple[str, ...], ids: list[str]
) -> None:
    found = collected(run(LIST.format(kinds=kinds), "--collect-only", *args))
    assert [name for name in found if "chosen" in name] == [f"test_chosen[{name}]" for name in ids]
    if not args:
        default = ["xdp-native", "xdp-skb", "tc-clsact", "tc-tcx"]
        assert [name for name in found if "default" in name] == [
            f"test_default[{name}]" for name in default
        ]


def test_an_unknown_kind_is_an_error(run: Run) -> None:
    for source, args in (
        (LIST.format(kinds="'tcx'"), ()),
        (LIST.format(kinds="'tc'"), ("--attach-kinds=tcx",)),
    ):
        result = run(source, *args)
        assert result.ret != 0
        text = result.stdout.str() + result.stderr.str()
        assert "no attach kind 'tcx'; there are xdp-native, xdp-skb" in text
    with pytest.raises(ValueError, match="no attach kind"):
        chosen("XDP")


# --- requirements ------------------------------------------------------------------------------

NEEDS = """
    import pytest

    @pytest.mark.requires("root", "tool:no-such-tool", "linux>=99.1")
    def test(wire):
        raise AssertionError("it ran")
"""


def test_a_skip_names_everything_that_is_missing(run: Run) -> None:
    result = run(NEEDS, "-rs")
    result.assert_outcomes(skipped=1)
    result.stdout.fnmatch_lines(
        ["SKIPPED*no-such-tool is not installed, or not in PATH; Linux 99.1 is needed, this is *"]
    )


def test_a_skip_fails_where_everything_is_required(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NETBPF_REQUIRE_ALL", "1")
    result = run(NEEDS)
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*Linux 99.1 is needed*(NETBPF_REQUIRE_ALL=1 allows no skip)*"])


def test_an_unknown_requirement_is_an_error(run: Run) -> None:
    result = run("import pytest\n@pytest.mark.requires('luck')\ndef test(): ...\n")
    assert result.ret != 0
    result.stdout.fnmatch_lines(["*marker requires: no requirement 'luck'; there are root, *"])


@pytest.mark.parametrize("word", ["root", "namespaces", "btf", "CAP_NET_RAW", "linux>=5.4", *KINDS])
def test_what_this_machine_has_is_not_missing(word: str) -> None:
    assert requirements.missing(word) is None


def without_capability(word: str, number: int) -> str:
    """What ``missing(word)`` says in a process without one capability."""
    code = f"from netns_fixtures.requirements import missing; print(missing({word!r}))"
    name = {21: "sys_admin", 12: "net_admin", 13: "net_raw", 39: "bpf"}[number]
    command = [
        "setpriv",
        f"--bounding-set=-{name}",
        f"--inh-caps=-{name}",
        sys.executable,
        "-c",
        code,
    ]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def test_a_missing_capability_is_named() -> None:
    assert without_capability("CAP_NET_RAW", 13) == "CAP_NET_RAW is missing"
    assert "CAP_SYS_ADMIN is missing" in without_capability("namespaces", 21)
    assert "CAP_SYS_ADMIN is missing" in without_capability("tc-tcx", 21)


def test_a_probe_that_fails_for_another_reason_is_no_skip(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(end: object, kind: object) -> object:
        raise ZeroDivisionError

    monkeypatch.setattr("netns_fixtures.programs.attach_pass", broken)
    requirements.missing.cache_clear()
    with pytest.raises(ZeroDivisionError):
        requirements.missing("xdp-skb")
    requirements.missing.cache_clear()


# --- failures read well ------------------------------------------------------------------------


def test_a_failure_points_at_the_test_and_shows_the_difference(run: Run) -> None:
    result = run(
        """
        import pytest
        from scapy.layers.inet import IP, UDP

        @pytest.mark.attach_kinds("tc-tcx")
        def test_ttl(rig):
            rig.send(IP(src="10.0.0.2", dst="10.0.0.1", ttl=64) / UDP(dport=53))
            rig.expect(IP(src="10.0.0.2", dst="10.0.0.1", ttl=63) / UDP(dport=53), within=0.01)
        """
    )
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        [
            ">*rig.expect(*",
            "E*ExpectationError: expected at dut0: Ether / IP / UDP*",
            "E*IP.ttl*expected 63*got 64",
            "E*offset*expected*got",
        ]
    )
    # The test's own line is the last one shown: nobody has to read the plugin.
    result.stdout.no_fnmatch_line("*netns_fixtures/*.py:*")


def test_untaken_packets_fail_the_test_and_not_its_teardown(run: Run) -> None:
    result = run(
        """
        def test(rig):
            rig.send(bytes(60), bytes(61))
            rig.expect(bytes(60))
        """,
        "--attach-kinds=xdp-skb",
    )
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["E*1 packet arrived at dut0 that no expect() took:*"])


# --- leaks -------------------------------------------------------------------------------------

LEAK = """
    import os

    kept = []

    def test_leaks(wire):
        kept.append(os.dup(0))

    def test_does_not(wire): ...

    def test_fails_anyway():
        kept.append(os.dup(0))
        assert False
"""


def test_the_ini_file_has_every_test_checked(run: Run) -> None:
    result = run(LEAK, ini="netns_leak_check = test")
    result.assert_outcomes(passed=2, failed=1, errors=1)
    result.stdout.fnmatch_lines(
        ["*ERROR at teardown of test_leaks*", "the test left behind:", "  descriptor: *"]
    )


def test_without_it_nobody_looks(run: Run) -> None:
    run(LEAK).assert_outcomes(passed=2, failed=1)


def test_one_test_can_ask_for_it(run: Run) -> None:
    result = run(LEAK.replace("test_leaks(wire)", "test_leaks(leak_check, wire)"))
    result.assert_outcomes(passed=2, failed=1, errors=1)


def test_wider_fixtures_may_keep_what_they_have(run: Run) -> None:
    result = run(
        """
        import pytest
        from netns_fixtures.topology import Topology

        @pytest.fixture(scope="module")
        def lab():
            with Topology() as topology:
                yield topology.wire()

        def test_one(lab): ...
        def test_other(lab, wire): ...
        """,
        ini="netns_leak_check = test",
    )
    result.assert_outcomes(passed=2)


@pytest.mark.serial
def test_what_the_whole_run_leaves_behind_fails_it(run: Run) -> None:
    result = run(
        """
        import subprocess

        def test(request):
            name = "netbpf-left-by-run"
            subprocess.run(["ip", "netns", "add", name], check=True)
        """,
        ini="netns_leak_check = session\nnetns_leak_patience = 0.5",
    )
    try:
        assert result.ret == pytest.ExitCode.TESTS_FAILED
        result.assert_outcomes(passed=1)
        result.stdout.fnmatch_lines(
            ["*left behind by the test run*", "named namespace: netbpf-left-by-run"]
        )
    finally:
        subprocess.run(["ip", "netns", "delete", "netbpf-left-by-run"], check=True)


@pytest.mark.parametrize(
    "ini",
    ["netns_leak_check = always", *(f"netns_leak_patience = {it}" for it in ("long", "-1", "inf"))],
)
def test_a_wrong_setting_is_an_error(run: Run, ini: str) -> None:
    result = run("def test(): ...", ini=ini)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([f"*{ini}: *"])


def test_parallel_runs_do_not_meet(run: Run) -> None:
    result = run(
        """
        import pytest

        @pytest.mark.parametrize("number", range(10))
        def test(rig, number):
            program = rig.attach({"xdp": "builtin:xdp_count", "tc": "builtin:tc_count"})
            frames = [bytes(60)] * number
            rig.send(frames)
            assert sum(one.packets for one in program.stats().verdicts.values()) == number
        """,
        "-n2",
        ini="netns_leak_check = test",
    )
    result.assert_outcomes(passed=40)


def test_the_help_names_markers_and_settings(run: Run) -> None:
    result = run("def test(): ...", "--markers")
    result.stdout.fnmatch_lines(["@pytest.mark.attach_kinds(*", "@pytest.mark.requires(*"])
    result = run("def test(): ...", "--help")
    result.stdout.fnmatch_lines(["*--attach-kinds=KIND,...*", "*netns_leak_check (string):*"])


def test_fixtures_are_documented(run: Run) -> None:
    result = run("def test(): ...", "--fixtures")
    for name in (
        "topology",
        "netns",
        "veth",
        "wire",
        "attach_kind",
        "rig",
        "changes",
        "leak_check",
    ):
        result.stdout.fnmatch_lines([f"{name} -- *plugin.py:*"])
        result.stdout.no_fnmatch_line("*no docstring available*netns*")
