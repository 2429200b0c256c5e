"""Compiling plain BPF C: what comes out, where it goes, and what is said when it does not work."""

import os
import shutil
import signal
import stat
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from netbpf.bpf.object import ObjectSpec
from netbpf.compiler import Options, compile_source, compile_sources
from netbpf.compiler.headers import multiarch
from netbpf.compiler.toolchain import find_clang
from netbpf.constants import Hook
from netbpf.errors import (
    CompileError,
    ExitCode,
    NetbpfError,
    ObjectError,
    ToolMissingError,
    UsageError,
)

GOOD = """\
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

struct { __uint(type, BPF_MAP_TYPE_HASH); __uint(max_entries, 8); __type(key, __u32); __type(value, __u64); }
seen SEC(".maps");
__u64 packets;

static __attribute__((noinline)) int verdict(__u32 length) { return length & 1 ? XDP_DROP : XDP_PASS; }

SEC("xdp") int prog(struct xdp_md *ctx)
{
	packets++;
	return verdict(ctx->data_end - ctx->data);
}

char _license[] SEC("license") = "Dual BSD/GPL";
"""
CLANGS = [Path(path) for name in ("clang-14", "clang-19") if (path := shutil.which(name))]


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Each test in a directory of its own, with the machine's own compilers."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("NETBPF_CLANG", raising=False)
    return tmp_path


def write(name: str, text: str = GOOD) -> Path:
    path = Path(name)
    path.write_text(text)
    return path


def script(path: Path, body: str) -> Path:
    path.write_text("#!/bin/sh\n" + textwrap.dedent(body))
    path.chmod(0o755)
    return path


# ------------------------------------------------------------------------------------- what comes out


@pytest.mark.parametrize("clang", CLANGS, ids=lambda path: path.name)
def test_an_object_has_btf_line_information_and_no_dwarf(clang: Path) -> None:
    write("prog.bpf.c")
    result = compile_source("prog.bpf.c", options=Options(clang=str(clang)))
    spec = ObjectSpec.open(result.output)
    names = {section.name for section in spec.elf.sections}
    assert result.compiler.startswith(f"clang {clang.name.removeprefix('clang-')}.")
    assert result.size == result.output.stat().st_size
    assert spec.select(Hook.XDP).name == "prog"
    assert spec.btf is not None
    assert spec.ext is not None
    assert {"seen", ".bss"} <= set(spec.maps)
    assert not [name for name in names if name.startswith((".debug_", ".rel.debug_"))]


def test_line_information_names_the_source_as_it_was_named(here: Path) -> None:
    write("prog.bpf.c")
    content = compile_source("prog.bpf.c").output.read_bytes()
    assert b"./prog.bpf.c\0" in content
    assert os.fsencode(here) not in content


def test_the_same_source_gives_the_same_bytes_in_another_directory(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write("prog.bpf.c")
    first = compile_source("prog.bpf.c").output.read_bytes()
    (here / "elsewhere").mkdir()
    monkeypatch.chdir(here / "elsewhere")
    write("prog.bpf.c")
    assert compile_source("prog.bpf.c").output.read_bytes() == first


def test_the_newest_clang_is_taken_unless_another_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    newest = max(CLANGS, key=lambda path: int(path.name.removeprefix("clang-")))
    oldest = min(CLANGS, key=lambda path: int(path.name.removeprefix("clang-")))
    assert find_clang() == newest
    monkeypatch.setenv("NETBPF_CLANG", str(oldest))
    assert find_clang() == oldest
    assert find_clang(newest.name) == newest


def test_own_headers_and_those_of_the_machine_are_found_without_flags() -> None:
    own = next((Path(__file__).parents[2] / "netbpf/include/netbpf").glob("*.h")).name
    headers = (
        "linux/if_ether.h",
        "linux/pkt_cls.h",
        "asm/types.h",
        "stdint.h",
        "string.h",
        "arpa/inet.h",
    )
    includes = "".join(f"#include <{header}>\n" for header in headers)
    # <stdint.h> and <arpa/inet.h> want <gnu/stubs-32.h>, which 32-bit development files bring.
    write("prog.bpf.c", f"#include <netbpf/{own}>\n{includes}{GOOD}")
    assert ObjectSpec.open(compile_source("prog.bpf.c").output).select(Hook.XDP).name == "prog"


def test_include_directories_and_defines_reach_the_compiler(here: Path) -> None:
    (here / "my headers").mkdir()
    (here / "my headers/limit.h").write_text("#define LIMIT 40\n")
    write(
        "prog.bpf.c",
        '#include "limit.h"\n_Static_assert(LIMIT + EXTRA == 42 && FLAG, "flags");\n' + GOOD,
    )
    compile_source("prog.bpf.c", options=Options(("my headers",), ("EXTRA=2", "FLAG")))


def test_the_target_architecture_is_defined_for_tracing_headers() -> None:
    write(
        "prog.bpf.c",
        GOOD
        + "#ifndef __TARGET_ARCH_x86\n#ifndef __TARGET_ARCH_arm64\n#error none\n#endif\n#endif\n",
    )
    compile_source("prog.bpf.c")


def test_warnings_are_handed_on_and_do_not_fail() -> None:
    write("prog.bpf.c", "#warning look here\n" + GOOD)
    assert "prog.bpf.c:1:2: warning: look here" in compile_source("prog.bpf.c").warnings


def test_colour_only_when_asked_for() -> None:
    write("prog.bpf.c", "#warning look here\n" + GOOD)
    assert "\x1b[" not in compile_source("prog.bpf.c").warnings
    assert "\x1b[" in compile_source("prog.bpf.c", options=Options(color=True)).warnings


@pytest.mark.parametrize(
    "name",
    ["with space.bpf.c", "-x.bpf.c", "@file.c", "-", "a;touch pwned;.c", "$(touch pwned).c", "new\nline.bpf.c", "'\".c",
     "ünï.bpf.c", os.fsdecode(b"\xff.bpf.c")],
)  # fmt: skip
def test_names_that_a_shell_or_an_option_parser_would_misread(name: str) -> None:
    write(name)
    result = compile_source(name, "out.o")
    assert ObjectSpec.open(result.output).select(Hook.XDP).name == "prog"
    assert not Path("pwned").exists()


# ---------------------------------------------------------------------------------------- where it goes


def test_objects_are_named_after_their_sources_in_the_current_directory(here: Path) -> None:
    (here / "src").mkdir()
    write("src/a.bpf.c")
    write("src/b.c")
    results = compile_sources(["src/a.bpf.c", "src/b.c"])
    assert [str(result.output) for result in results] == ["a.bpf.o", "b.o"]
    assert sorted(path.name for path in here.iterdir()) == ["a.bpf.o", "b.o", "src"]


def test_several_sources_go_into_a_directory(here: Path) -> None:
    write("a.bpf.c")
    write("b.bpf.c")
    (here / "out").mkdir()
    compile_sources([Path("a.bpf.c"), Path("b.bpf.c")], "out/")
    assert sorted(path.name for path in (here / "out").iterdir()) == ["a.bpf.o", "b.bpf.o"]


@pytest.mark.parametrize(
    ("sources", "output", "message"),
    [
        (["a.bpf.c", "b.bpf.c"], "one.o", "one output file one.o for 2 sources"),
        (["a.bpf.c", "sub/a.bpf.c"], None, "would both become a.bpf.o"),
        (["a.bpf.c"], "missing/", "there is no directory missing/"),
        (["a.bpf.c"], "a.bpf.c", "would replace the source"),
        (["a.bpf.c"], "", "empty name"),
        ([], None, "nothing to compile"),
    ],
)
def test_places_that_make_no_sense(
    here: Path, sources: list[str], output: str | None, message: str
) -> None:
    (here / "sub").mkdir()
    for name in ("a.bpf.c", "b.bpf.c", "sub/a.bpf.c"):
        write(name)
    before = sorted(here.rglob("*"))
    with pytest.raises(UsageError, match=message) as caught:
        compile_sources(sources, output)
    assert caught.value.exit_code == ExitCode.USAGE
    assert sorted(here.rglob("*")) == before
    assert Path("a.bpf.c").read_text() == GOOD


def test_only_regular_files_are_replaced(here: Path) -> None:
    write("prog.bpf.c")
    os.mkfifo("fifo")
    Path("victim").write_text("precious")
    Path("link.o").symlink_to("victim")
    for name, kind in (
        ("fifo", "not a regular file"),
        ("link.o", "a symbolic link"),
        ("/dev/null", "not a regular file"),
    ):
        with pytest.raises(UsageError, match=kind):
            compile_source("prog.bpf.c", name)
    assert Path("victim").read_text() == "precious"
    assert stat.S_ISCHR(Path("/dev/null").stat().st_mode)


def test_an_existing_object_is_replaced_whole_and_keeps_the_umask() -> None:
    write("prog.bpf.c")
    Path("prog.bpf.o").write_text("old")
    old = os.umask(0o027)
    try:
        with open("prog.bpf.o") as held:
            compile_source("prog.bpf.c")
            assert held.read() == "old"  # a reader that has it open keeps what it had
    finally:
        os.umask(old)
    assert stat.S_IMODE(Path("prog.bpf.o").stat().st_mode) == 0o640


def test_nothing_is_written_unless_every_source_compiles(here: Path) -> None:
    write("a.bpf.c")
    write("b.bpf.c", "this is not C\n")
    with pytest.raises(CompileError, match=r"b\.bpf\.c does not compile"):
        compile_sources(["a.bpf.c", "b.bpf.c"])
    assert sorted(path.name for path in here.iterdir()) == ["a.bpf.c", "b.bpf.c"]


def test_a_directory_that_cannot_be_written_is_named() -> None:
    write("prog.bpf.c")
    with pytest.raises(NetbpfError, match=r"cannot write /proc/prog\.bpf\.o: No such file"):
        compile_source("prog.bpf.c", "/proc")


# -------------------------------------------------------------------------------------- what goes wrong


def test_errors_are_those_of_clang_once_and_unchanged(here: Path) -> None:
    write("prog.bpf.c", GOOD.replace("packets++;", "packets++"))
    with pytest.raises(CompileError) as caught:
        compile_source("prog.bpf.c")
    machine = multiarch() or "/usr/include"
    clang = subprocess.run(
        [find_clang(), "-target", "bpf", "-idirafter", machine, "-c", "prog.bpf.c", "-o", "x.o"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert caught.value.output == clang.stderr
    assert caught.value.output.count("error: expected ';'") == 1
    assert caught.value.exit_code == ExitCode.BAD_OBJECT
    assert caught.value.hint is None
    assert [path.name for path in here.iterdir()] == ["prog.bpf.c"]


def test_a_missing_clang_names_the_package(monkeypatch: pytest.MonkeyPatch, here: Path) -> None:
    write("prog.bpf.c")
    monkeypatch.setenv("PATH", str(here))
    with pytest.raises(ToolMissingError, match="clang is not installed") as caught:
        compile_source("prog.bpf.c")
    assert caught.value.exit_code == ExitCode.NOT_SUPPORTED
    assert "apt install clang" in str(caught.value.hint)
    assert "dnf install clang" in str(caught.value.hint)


def test_a_clang_that_is_named_must_be_there(monkeypatch: pytest.MonkeyPatch) -> None:
    write("prog.bpf.c")
    monkeypatch.setenv("NETBPF_CLANG", "/nowhere/clang")
    with pytest.raises(
        ToolMissingError, match=r"no such compiler: /nowhere/clang \(from \$NETBPF_CLANG\)"
    ):
        compile_source("prog.bpf.c")


def test_a_clang_that_is_too_old_is_told_from_its_version(here: Path) -> None:
    write("prog.bpf.c")
    old = script(here / "clang", "echo 'Debian clang version 11.0.1-2'\n")
    with pytest.raises(ToolMissingError, match=r"is clang 11; netbpf needs clang 14 or newer"):
        compile_source("prog.bpf.c", options=Options(clang=str(old)))


def test_something_else_called_clang_is_refused(here: Path) -> None:
    write("prog.bpf.c")
    other = script(here / "clang", "echo gcc 12\n")
    with pytest.raises(ToolMissingError, match="is not clang: it answers --version with 'gcc 12'"):
        compile_source("prog.bpf.c", options=Options(clang=str(other)))


def test_a_clang_without_the_bpf_target_is_told(here: Path) -> None:
    write("prog.bpf.c")
    real = find_clang()
    body = f"""\
        [ "$1" = --version ] && exec {real} --version
        echo "error: unable to create target: 'No available targets are compatible with triple \\"bpf\\"'" >&2
        exit 1
    """
    wrapper = script(here / "clang", body)
    with pytest.raises(ToolMissingError, match="was built without the BPF target") as caught:
        compile_source("prog.bpf.c", options=Options(clang=str(wrapper)))
    assert "apt install clang" in str(caught.value.hint)


def test_a_compiler_that_writes_no_btf_is_told(here: Path) -> None:
    write("prog.bpf.c")
    real = find_clang()
    wrapper = script(
        here / "clang", f'[ "$1" = --version ] && exec {real} --version\nexec {real} "$@" -g0\n'
    )
    with pytest.raises(CompileError, match="made an object without BTF"):
        compile_source("prog.bpf.c", options=Options(clang=str(wrapper)))


def test_a_compiler_that_crashes_is_a_clean_error(here: Path) -> None:
    write("prog.bpf.c")
    real = find_clang()
    wrapper = script(
        here / "clang",
        f'[ "$1" = --version ] && exec {real} --version\necho last words; kill -SEGV $$\n',
    )
    with pytest.raises(
        CompileError, match=r"/clang was ended by SIGSEGV while compiling prog\.bpf\.c$"
    ) as caught:
        compile_source("prog.bpf.c", options=Options(clang=str(wrapper)))
    assert "last words" in caught.value.output


def _without(directory: str, source: Path) -> subprocess.CompletedProcess[str]:
    """Compile where ``directory`` is empty, in a mount namespace of its own."""
    code = (
        "import sys\n"
        "from netbpf.compiler import compile_source\n"
        "from netbpf.errors import NetbpfError\n"
        "try:\n    compile_source(sys.argv[1])\n"
        "except NetbpfError as error:\n    print(type(error).__name__, error, '|', error.hint)\n"
    )
    mount = f'mount -t tmpfs none {directory} && exec "$@"'
    return subprocess.run(
        ["unshare", "--mount", "sh", "-c", mount, "sh", sys.executable, "-c", code, source],
        capture_output=True, text=True, check=True, env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
    )  # fmt: skip


@pytest.mark.root
@pytest.mark.parametrize(
    ("directory", "header", "debian", "fedora"),
    [
        ("/usr/include/bpf", "bpf/bpf_helpers.h", "libbpf-dev", "libbpf-devel"),
        ("/usr/include/linux", "linux/bpf.h", "linux-libc-dev", "kernel-headers"),
    ],
)
def test_missing_headers_name_their_package(
    directory: str, header: str, debian: str, fedora: str
) -> None:
    source = write("prog.bpf.c", f"#include <{header}>\n" + GOOD)
    said = _without(directory, source).stdout
    assert said.startswith("CompileError prog.bpf.c does not compile | ")
    assert f"apt install {debian}" in said
    assert f"dnf install {fedora}" in said


def test_a_missing_vmlinux_h_says_how_to_make_one() -> None:
    write("prog.bpf.c", '#include "vmlinux.h"\n' + GOOD)
    with pytest.raises(CompileError) as caught:
        compile_source("prog.bpf.c")
    assert "bpftool btf dump file /sys/kernel/btf/vmlinux format c > vmlinux.h" in str(
        caught.value.hint
    )


def test_a_header_of_ones_own_hints_at_the_include_option_and_a_misspelt_one_at_nothing() -> None:
    write("prog.bpf.c", '#include "mine.h"\n' + GOOD)
    with pytest.raises(CompileError) as caught:
        compile_source("prog.bpf.c")
    assert caught.value.hint == "name the directory that holds mine.h with -I DIR"
    write("prog.bpf.c", "#include <linux/no_such.h>\n" + GOOD)
    with pytest.raises(CompileError) as caught:
        compile_source("prog.bpf.c")
    assert caught.value.hint is None


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (Options(include_dirs=("missing",)), "include directory 'missing' does not exist"),
        (Options(defines=("1x=2",)), "'1x=2' defines no name"),
        (Options(defines=("",)), "'' defines no name"),
        (Options(frontend="gcc"), "unknown frontend 'gcc'"),  # type: ignore[arg-type]
    ],
)
def test_options_that_make_no_sense(options: Options, message: str) -> None:
    write("prog.bpf.c")
    with pytest.raises(UsageError, match=message):
        compile_source("prog.bpf.c", options=options)


def test_sources_that_are_none(here: Path) -> None:
    write("prog.bpf.c")
    compile_source("prog.bpf.c", "prog.o")
    os.mkfifo("fifo.c")
    Path("nul.c").write_bytes(b"int x;\0")
    for name, message in (
        ("missing.c", "cannot open missing.c: No such file"),
        (str(here), "is a directory"),
        ("fifo.c", "not a regular file"),
        ("/dev/zero", "not a regular file"),
        ("prog.o", "is a compiled object, not C source"),
        ("nul.c", "holds NUL bytes"),
    ):
        with pytest.raises(ObjectError, match=message):
            compile_source(name, "out.o")
    assert not Path("out.o").exists()


def test_ctrl_c_ends_the_compiler_and_leaves_nothing(here: Path) -> None:
    write("prog.bpf.c")
    (here / "tmp").mkdir()
    real = find_clang()
    # It says who it is, interrupts netbpf, and would stay for ten minutes.
    clang = script(
        here / "clang",
        f'[ "$1" = --version ] && exec {real} --version\necho $$ > pid; kill -INT $PPID; exec sleep 600\n',
    )
    code = "import sys; from netbpf.compiler import *; compile_source(sys.argv[1], 'out.o')"
    environment = {**os.environ, "NETBPF_CLANG": str(clang), "TMPDIR": str(here / "tmp"),
                   "PYTHONPATH": str(Path(__file__).parents[2])}  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-c", code, "prog.bpf.c"],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == -signal.SIGINT
    assert "KeyboardInterrupt" in done.stderr
    assert not Path("/proc", Path("pid").read_text().strip()).exists()
    assert list((here / "tmp").iterdir()) == []
    assert not Path("out.o").exists()
