"""``--coverage``: which lines and branches packets reached, in every form in which it is told."""

import json
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

import netbpf
from netbpf.compiler.result import Options
from netbpf.errors import NetbpfError, ObjectError, PacketTextError, UsageError, VerifierError
from netbpf.packets import replay_live
from netbpf.packets.coverage import Covering
from netbpf.packets.coverage_data import add_to_file, from_json, to_json
from netbpf.packets.coverage_model import Branch, BranchKey, Coverage, FileCoverage, Function
from netbpf.packets.coverage_table import spans
from netbpf.packets.replay_ways import Target
from netbpf.packets.testrun import Bench
from tests.cli.lab import run_cli
from tests.packets.captures import pcap
from tests.support.compiling import CLANGS, compile_c

SHARED = """\
static __always_inline int small(struct xdp_md *ctx)
{
	if (ctx->data_end - ctx->data < 100)
		return bpf_get_smp_processor_id() < 4096;
	bpf_ktime_get_ns();
	return 0;
}
"""
GUARD = """\
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#include "small.h"
__u64 large;

static __attribute__((noinline)) int count(struct xdp_md *ctx)
{
	large++;
	return ctx->rx_queue_index + 1;
}

SEC("xdp") int guard(struct xdp_md *ctx)
{
	if (small(ctx))
		return XDP_PASS;
	if (count(ctx) > 4)
		bpf_ktime_get_boot_ns();
	return XDP_DROP;
}
char _license[] SEC("license") = "GPL";
"""
OTHER = GUARD.replace("guard", "other").replace("if (small(ctx))", "if (small(ctx) && large < 9)")
SMALL, LARGE = bytes(60), bytes(200)
CASES = """
object = "guard.bpf.c"
[[case]]
name = "small ones pass"
packet = { hex = "SMALL" }
verdict = "pass"
[[case]]
name = "large ones do not"
packet = { hex = "LARGE" }
verdict = "drop"
"""


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name, text in {
        "small.h": SHARED, "guard.bpf.c": GUARD, "other.bpf.c": OTHER,
        "cases.toml": CASES.replace("SMALL", SMALL.hex()).replace("LARGE", LARGE.hex()),
    }.items():  # fmt: skip
        Path(name).write_text(text)


def line(text: str, source: str = GUARD) -> int:
    """The number of the line that holds this text."""
    return source[: source.index(text)].count("\n") + 1


def file_of(found: Coverage, name: str) -> FileCoverage:
    return next(one for one in found.files if one.path.endswith(name))


def cover(*packets: bytes, source: str = "guard.bpf.c") -> Coverage:
    with netbpf.coverage() as covered:
        for packet in packets:
            netbpf.run(source, packet)
    return covered.result()


# --- what counts ---


def test_lines_branches_and_functions() -> None:
    found = cover(SMALL, SMALL, LARGE)
    guard, shared = file_of(found, "guard.bpf.c"), file_of(found, "small.h")
    assert guard.lines[line("large++")] == 1
    assert guard.lines[line('SEC("xdp")')] == 3
    assert guard.lines[line("bpf_ktime_get_boot_ns")] == 0
    assert guard.missing == [line("bpf_ktime_get_boot_ns")]
    assert shared.lines[line("bpf_get_smp", SHARED)] == 2
    assert shared.lines[line("bpf_ktime", SHARED)] == 1
    assert [(one.name, one.count) for one in guard.functions] == [("count", 1), ("guard", 3)]
    [never] = [one for one in guard.branches if one.line == line("if (count")]
    assert sorted(map(bool, never.ways)) == [False, True]
    [size] = [one for one in shared.branches if one.line == line("if (ctx", SHARED)]
    assert sorted(way or 0 for way in size.ways) == [1, 2]
    assert (found.notes, found.programs[0].level) == ((), "counts")
    assert 0.5 < found.share < 1


def test_a_header_in_two_programs_is_reached_if_it_is_in_one() -> None:
    with netbpf.coverage() as covered:
        netbpf.run("guard.bpf.c", SMALL)
        netbpf.run("other.bpf.c", LARGE)
    found = covered.result()
    shared = file_of(found, "small.h")
    assert shared.missing == []
    assert shared.lines[line("if (ctx", SHARED)] == 2
    # Every copy of a branch counts: each of the two programs went one way.
    both = [one for one in shared.branches if one.line == line("if (ctx", SHARED)]
    assert sorted(one.program for one in both) == ["guard", "other"]
    assert [sum(map(bool, one.ways)) for one in both] == [1, 1]


def test_runs_add_up_in_one_process_and_over_several() -> None:
    one, two = cover(SMALL), cover(LARGE, LARGE)
    together = cover(SMALL, LARGE, LARGE)
    merged = one.merged([two])
    for one_file, same in zip(merged.files, together.files, strict=True):
        assert (one_file.missing, one_file.branches) == (same.missing, same.branches)
        assert one_file.functions == same.functions
    assert merged.merged([]) == merged
    assert from_json(json.loads(json.dumps(to_json(merged)))) == merged
    assert add_to_file("kept.json", one) == one
    assert add_to_file("kept.json", two) == merged
    assert [path.name for path in Path().glob("*kept*")] == ["kept.json"]


def test_a_build_that_never_ran_counts_unless_another_one_did() -> None:
    with netbpf.coverage() as covered:
        Bench.open("guard.bpf.c").close()
    idle = covered.result()
    assert idle.reached == 0
    assert line("large++") in file_of(idle, "guard.bpf.c").missing
    newer = Options(defines=("NEWER",))
    Path("guard.bpf.c").write_text(
        GUARD.replace("large++;", "large++;\n#ifdef NEWER\n\tlarge += 4;\n#endif")
    )
    with netbpf.coverage() as covered:
        Bench.open("guard.bpf.c", compiler=newer).close()
        netbpf.run("guard.bpf.c", LARGE)
    found = covered.result()
    assert file_of(found, "guard.bpf.c").lines == file_of(cover(LARGE), "guard.bpf.c").lines
    assert len(found.programs) == 1


def test_one_file_by_several_names_is_one(tmp_path: Path) -> None:
    with netbpf.coverage() as covered:
        netbpf.run("guard.bpf.c", LARGE)
        netbpf.run(str(tmp_path / "guard.bpf.c"), SMALL)
    assert [one.path for one in covered.result().files] == ["guard.bpf.c", "small.h"]


def test_only_some_files() -> None:
    found = cover(SMALL)
    assert [
        Path(one.path).name for one in found.within([str(Path("small.h").resolve())]).files
    ] == ["small.h"]
    assert len(found.within([str(Path.cwd())]).files) == 2
    assert found.within(["elsewhere"]) == Coverage()


def test_without_lines_it_is_told_by_instruction_and_said() -> None:
    found = cover_bytes(compile_c(GUARD.replace('#include "small.h"', SHARED), debug=False), LARGE)
    [file] = found.files
    assert file.unit == "instruction"
    assert file.path.endswith(":guard")
    assert found.notes == (
        "guard has no source lines in its object (compiled without -g): by instruction",
    )
    assert file.text[min(file.lines)].startswith("(")
    assert 0 < file.reached < len(file.lines)
    assert "(instructions)" in found.table()


def cover_bytes(data: bytes, packet: bytes) -> Coverage:
    with netbpf.coverage() as covered:
        netbpf.run(data, packet)
    return covered.result()


def test_what_nobody_measured_is_neither_reached_nor_missing() -> None:
    file = FileCoverage("a.c", {1: 2, 2: None, 3: 0, 5: None})
    assert (file.reached, file.unmeasured, file.missing) == (1, 2, [3])
    table = Coverage((file,)).table()
    assert table.splitlines()[1].split() == [
        "a.c", "1/4", "25.0", "%", "0/0", "-", "3;", "2", "not", "measured",
    ]  # fmt: skip
    # Reached elsewhere is reached; not reached elsewhere leaves it open.
    merged = Coverage((file,)).merged(
        [Coverage((FileCoverage("a.c", {1: None, 2: 7, 3: None, 5: 0}),))]
    )
    assert merged.files[0].lines == {1: 2, 2: 7, 3: None, 5: None}


def test_spans_reach_over_lines_without_code() -> None:
    assert spans([], [1]) == ""
    assert spans([3, 4, 9], [1, 5]) == "3-4, 9"
    assert spans([3, 9], [1, 12]) == "3-9"


# --- commands ---


def test_run_shows_a_table() -> None:
    done = run_cli("run", "guard.bpf.c", "--hex", SMALL.hex(), "--coverage")
    assert (done.code, done.err) == (0, "")
    at = next(n for n, text in enumerate(done.lines) if text.startswith("coverage "))
    table = done.lines[at:]
    assert table[0].split() == ["coverage", "lines", "share", "branches", "share", "not", "reached"]
    assert table[1].split()[0] == "guard.bpf.c"
    assert f"{line('large++')}-" in table[1]
    assert [one.split()[0] for one in table[1:]] == ["guard.bpf.c", "small.h", "total"]


def test_v_names_the_branches() -> None:
    done = run_cli("run", "guard.bpf.c", "--hex", LARGE.hex(), "--coverage", "-v")
    assert any(
        one.startswith(f"  guard.bpf.c:{line('if (count')}:6: ") and " taken in guard" in one
        for one in done.lines
    )


def test_replay_and_what_it_writes_at_the_same_time() -> None:
    Path("in.pcap").write_bytes(pcap([SMALL] * 150 + [LARGE] * 50))
    plain = run_cli("replay", "guard.bpf.c", "in.pcap", "--json").json
    done = run_cli("replay", "guard.bpf.c", "in.pcap", "--json", "--coverage", "-w", "out.pcapng")
    assert done.code == 0
    content = done.json
    found = from_json(content.pop("coverage"))
    for timed in ("seconds", "packets_per_second"):
        del plain[timed], content[timed]
    assert content == plain
    guard = file_of(found, "guard.bpf.c")
    assert guard.lines[line("large++")] == 50
    assert guard.lines[line('SEC("xdp")')] == 200


def test_cases_add_up_over_files() -> None:
    done = run_cli("test", "cases.toml", "cases.toml", "--coverage", "--json")
    assert done.code == 0
    found = from_json(done.json["coverage"])
    assert file_of(found, "guard.bpf.c").lines[line('SEC("xdp")')] == 4
    assert len(found.programs) == 1


def test_data_is_kept_from_run_to_run_and_shown_as_a_whole() -> None:
    keep = ("--coverage", "--coverage-data", "kept.json")
    assert run_cli("run", "guard.bpf.c", "--hex", SMALL.hex(), *keep).code == 0
    done = run_cli("run", "guard.bpf.c", "--hex", LARGE.hex(), *keep)
    [row] = [one for one in done.lines if one.startswith("  small.h")]
    assert " 100.0 %" in row
    Path("kept.json").write_text('{"schema": "netbpf.run/1"}')
    done = run_cli("run", "guard.bpf.c", "--hex", SMALL.hex(), "--coverage-data", "kept.json")
    assert done.code == ObjectError.exit_code
    assert "kept.json is no coverage that netbpf wrote" in done.err


@pytest.mark.parametrize("option", ["--coverage-lcov", "--coverage-html", "--coverage-data"])
def test_a_file_that_cannot_be_written_is_an_error_with_its_name(option: str) -> None:
    Path("taken").write_text("a file, not a directory")
    done = run_cli("run", "guard.bpf.c", "--hex", SMALL.hex(), option, "taken/there")
    assert done.code == NetbpfError.exit_code
    assert "cannot write taken/there" in done.err.replace("/index.html", "")


def test_a_full_disk() -> None:
    done = run_cli("run", "guard.bpf.c", "--hex", SMALL.hex(), "--coverage-lcov", "/dev/full")
    assert done.code == NetbpfError.exit_code
    assert "cannot write /dev/full: No space left on device" in done.err


def test_what_was_reached_before_an_error_is_written() -> None:
    wrong = Path("cases.toml").read_text() + "counters = { nothing = 1 }\n"
    Path("wrong.toml").write_text(wrong)
    done = run_cli("test", "cases.toml", "wrong.toml", "--coverage-data", "kept.json")
    assert done.code == UsageError.exit_code
    kept = from_json(json.loads(Path("kept.json").read_text()))
    assert file_of(kept, "guard.bpf.c").lines[line("large++")] == 1


@pytest.mark.parametrize(
    ("refused", "level", "words"),
    [(0, "counts", ""), (1, "hits", "what was reached, not how often"), (3, "nothing", "what there is of it: nothing")],
)  # fmt: skip
def test_a_chain_that_does_not_fit_with_probes_counts_less_and_says_so(
    monkeypatch: pytest.MonkeyPatch, refused: int, level: str, words: str
) -> None:
    """Each member may fit and all together may not: only the whole says so."""
    left = refused

    @contextmanager
    def live_copy(*_: object) -> Iterator[Target]:
        nonlocal left
        with Bench.open("guard.bpf.c") as bench:
            left -= 1
            if left >= 0:
                raise VerifierError("too much", log="")
            yield Target.of(bench)

    monkeypatch.setattr(replay_live, "live_copy", live_copy)
    Path("in.pcap").write_bytes(pcap([SMALL, LARGE]))
    done = run_cli("replay", "--on", "eth0", "in.pcap", "--coverage", "--json")
    assert done.code == 0
    found = from_json(done.json["coverage"])
    assert [one.level for one in found.programs] == [level]
    said = (
        "the verifier does not take all programs on eth0 with more to count; what there is of it: "
    )
    assert found.notes == ((said + words.removeprefix("what there is of it: "),) if refused else ())
    assert all(note in done.err for note in found.notes)
    assert (file_of(found, "guard.bpf.c").lines[line("large++")] == 1) is (level != "nothing")


def test_a_chain_that_does_not_fit_anyway_is_an_error_as_ever(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def live_copy(*_: object) -> None:
        raise VerifierError("too much", log="")

    monkeypatch.setattr(replay_live, "live_copy", live_copy)
    Path("in.pcap").write_bytes(pcap([SMALL]))
    done = run_cli("replay", "--on", "eth0", "in.pcap", "--coverage")
    assert done.code == VerifierError.exit_code


# --- files for others ---


def test_lcov_and_genhtml_take_the_tracefile() -> None:
    """Debian's, which the package lcov brings."""
    assert shutil.which("genhtml"), "apt install lcov"
    with netbpf.coverage() as covered:
        netbpf.run("guard.bpf.c", LARGE)
        netbpf.run("other.bpf.c", LARGE)
        netbpf.run("other.bpf.c", SMALL)
    found = covered.result()
    found.write_lcov("trace.info")
    rates = ["--rc", "lcov_branch_coverage=1"]
    done = subprocess.run(
        ["lcov", *rates, "--summary", "trace.info"], capture_output=True, text=True, check=True
    )
    said = done.stdout + done.stderr
    ways = sum(one.ways for one in found.files)
    gone = sum(one.ways_reached for one in found.files)
    assert f"({found.reached} of {found.lines} lines)" in said
    assert f"({gone} of {ways} branches)" in said
    assert "(4 of 4 functions)" in said
    done = subprocess.run(
        ["genhtml", *rates, "-q", "-o", "pages", "trace.info"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stderr == ""
    assert list(Path("pages").rglob("guard.bpf.c.gcov.html"))
    # Two tracefiles are one, as runs are.
    subprocess.run(
        ["lcov", *rates, "-q", "-a", "trace.info", "-a", "trace.info", "-o", "sum.info"],
        capture_output=True,
        check=True,
    )
    hits = f"DA:{line('large++')},2"
    assert hits in Path("sum.info").read_text()


class Texts(HTMLParser):
    """The text of every row of a page, and its class."""

    def __init__(self) -> None:
        super().__init__()
        self.rows: list[tuple[str, list[str]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, Any]]) -> None:
        if tag == "tr":
            self.rows.append((dict(attrs).get("class") or "", []))

    def handle_data(self, data: str) -> None:
        if self.rows and data.strip():
            self.rows[-1][1].append(data.strip())


def rows(path: Path) -> dict[str, tuple[str, list[str]]]:
    """The rows of an annotated source by line number."""
    parser = Texts()
    parser.feed(path.read_text())
    return {texts[0]: (kind, texts) for kind, texts in parser.rows if texts}


def test_pages_show_the_source_with_counts() -> None:
    Path("guard.bpf.c").write_text(GUARD.replace("large++;", 'large++; /* <b>&"no markup" */'))
    cover(SMALL, LARGE).write_html("pages")
    [page] = Path("pages").glob("*guard.bpf.c.*.html")
    found = rows(page)
    assert found[str(line("large++"))] == (
        "hit", [str(line("large++")), "1", 'large++; /* <b>&"no markup" */'],
    )  # fmt: skip
    assert found[str(line("bpf_ktime_get_boot"))][0] == "miss"
    assert found[str(line("if (count"))][0] == "part"
    assert "taken in guard" in " ".join(found[str(line("if (count"))][1])
    assert len(found) > GUARD.count("\n")  # every line with text, and the head's rows
    assert page.name in Path("pages/index.html").read_text()


def test_a_source_that_has_changed_since_is_not_shown_in_place_of_what_ran() -> None:
    found = cover(SMALL)
    Path("guard.bpf.c").write_text("\n\n" + GUARD)
    found.write_html("pages")
    [page] = Path("pages").glob("*guard.bpf.c.*.html")
    assert "these are the lines that the object holds" in page.read_text()
    assert rows(page)[str(line("large++"))][1] == [str(line("large++")), "0", "large++;"]
    found.write_lcov("trace.info")
    assert "SF:guard.bpf.c\n" in Path("trace.info").read_text()


def test_hostile_names_and_texts_do_no_harm() -> None:
    branch = Branch(BranchKey("0", 1), "<p>", "f", 1, 1, 1, 0)
    evil = FileCoverage(
        "../../<script>\x1b[2J", {1: 1}, (branch,), (Function("f", 1, 1),), {1: "</td><script>"}
    )
    found = Coverage((evil,))
    found.write_html("pages")
    assert all(path.parent == Path("pages") for path in Path().rglob("*.html"))
    assert not any("<script" in path.read_text() for path in Path("pages").iterdir())
    assert "\x1b" not in found.table()
    assert "\x1b" not in found.table(verbose=True)


# --- the library ---


def test_an_error_inside_leaves_what_was_reached_before() -> None:
    def wrong(into: list[Covering]) -> None:
        with netbpf.coverage() as covered:
            into.append(covered)
            netbpf.run("guard.bpf.c", SMALL)
            netbpf.run("guard.bpf.c", "nonsense(")

    kept: list[Covering] = []
    with pytest.raises(PacketTextError):
        wrong(kept)
    [covered] = kept
    assert covered.result().reached


@pytest.mark.parametrize("clang", CLANGS)
def test_every_compiler(clang: str) -> None:
    data = compile_c(GUARD.replace('#include "small.h"', SHARED), clang=clang)
    found = cover_bytes(data, LARGE)
    assert found.reached
    assert found.notes == ()
