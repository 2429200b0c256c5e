"""``netbpf compile``: the command; the compiler itself has tests of its own."""

from pathlib import Path

import pytest

from tests.cli.lab import Lab, run_cli

GOOD = (
    "#include <linux/bpf.h>\n#include <bpf/bpf_helpers.h>\n#include <netbpf/parsing.h>\n"
    'SEC("xdp") int pass(struct xdp_md *ctx) { return XDP_PASS; }\nchar _license[] SEC("license") = "GPL";\n'
)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "pass.bpf.c"
    path.write_text(GOOD)
    return path


def test_beside_the_current_directory(source: Path, tmp_path: Path) -> None:
    done = run_cli("compile", "pass.bpf.c")
    assert (done.code, done.err) == (0, "")
    made = tmp_path / "pass.bpf.o"
    assert done.out.startswith(f"pass.bpf.c -> pass.bpf.o ({made.stat().st_size:,} bytes, clang")


def test_to_a_file_and_to_a_directory(source: Path, tmp_path: Path) -> None:
    assert run_cli("compile", source, "-o", "x.o").code == 0
    (tmp_path / "other.bpf.c").write_text(GOOD)
    (tmp_path / "build").mkdir()
    done = run_cli("compile", source, "other.bpf.c", "-o", "build/", "--json")
    found = done.json
    assert found["schema"] == "netbpf.compile/1"
    assert [Path(one["output"]).name for one in found["objects"]] == ["pass.bpf.o", "other.bpf.o"]
    for one in found["objects"]:
        assert Path(one["output"]).stat().st_size == one["size"]
        assert one["frontend"] == "clang"


def test_a_mistake_is_shown_once_as_clang_gives_it(source: Path) -> None:
    source.write_text(GOOD.replace("XDP_PASS; }", "XDP_PAS; }"))
    done = run_cli("compile", source)
    assert done.code == 3
    assert done.err.count("use of undeclared identifier 'XDP_PAS'") == 1
    *_, last = done.err.splitlines()
    assert last.startswith("netbpf: error: ")
    assert done.err.count("netbpf: error: ") == 1
    machine = run_cli("compile", source, "--json")
    assert machine.json["error"]["type"] == "CompileError"


def test_a_warning_is_no_failure(source: Path) -> None:
    source.write_text(GOOD.replace("return", "\n#warning look here\nreturn"))
    done = run_cli("compile", source)
    assert done.code == 0
    assert done.err.count("look here") >= 1


def test_names_that_a_shell_would_take_apart(tmp_path: Path) -> None:
    (tmp_path / "a b;touch x$(touch y).bpf.c").write_text(GOOD)
    (tmp_path / "-o.bpf.c").write_text(GOOD)
    assert run_cli("compile", "a b;touch x$(touch y).bpf.c").code == 0
    assert run_cli("compile", "--", "-o.bpf.c").code == 0
    assert sorted(one.name for one in tmp_path.glob("*.o")) == [
        "-o.bpf.o",
        "a b;touch x$(touch y).bpf.o",
    ]
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize("words", [(), ("missing.c",), ("pass.bpf.c", "--frontend", "gcc")])
def test_what_cannot_be_compiled(source: Path, words: tuple[str, ...]) -> None:
    done = run_cli("compile", *words)
    assert done.code in (2, 3)
    assert done.error


def test_no_clang(source: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    done = run_cli("compile", source)
    assert done.code == 5
    assert "apt" in done.error
    done = run_cli("compile", source, "--clang", "clang-999", "--json")
    assert (done.code, done.json["error"]["type"]) == (5, "ToolMissingError")


def test_what_was_compiled_runs(lab: Lab, source: Path) -> None:
    assert run_cli("compile", source, "-o", "made.o").code == 0
    lab("attach", "xdp", "dut0", "made.o")
    assert lab.programs() == [("dut0", "xdp", "pass")]
