"""Objects and names made to do harm, at the command line: one clear line, the right exit code, nothing attached."""

import os
import re
import resource
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from netbpf.bpf.loader import load
from netbpf.bpf.object import ObjectSpec
from netbpf.constants import Hook
from netbpf.errors import ObjectError
from netbpf.manager import settings
from tests.cli.lab import ROOT, Lab, run_cli
from tests.support.compiling import CLANGS, compile_c, compile_object
from tests.support.elf import (
    CODE,
    EXIT,
    FUNC,
    MOV,
    PROGBITS,
    STRTAB,
    SYMTAB,
    Part,
    elf,
    program,
    symbol,
)

HEAD = "#include <linux/bpf.h>\n#include <bpf/bpf_helpers.h>\n"
NASTY = "\x1b[31mred\n\x07netbpf: error: all is well\t\x7f\u202e"


def refused(lab: Lab, path: Path | str, *options: str, code: int = 3) -> str:
    """The one line that ``attach`` says of an object, fit for a terminal."""
    done = lab("attach", "xdp", "dut0", path, *options, code=code)
    assert not [one for one in done.err if not one.isprintable() and one != "\n"]
    assert not lab.hooks()
    return done.error


def test_a_gibibyte_is_not_read(lab: Lab) -> None:
    path = lab.directory / "huge.o"
    with open(path, "wb") as file:
        file.write(program())
        file.truncate(1 << 30)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert "huge.o has 1073741824 bytes; an object may have 67108864" in refused(lab, path)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 16 << 10  # KiB


def named(name: str, section: str = "xdp") -> bytes:
    """An object whose one program is called so."""
    code = MOV + EXIT
    return elf(
        Part(section, code, PROGBITS, CODE),
        Part(".strtab", b"\0" + name.encode() + b"\0", STRTAB),
        Part(".symtab", symbol(0, 0, 0) + symbol(1, FUNC, 1, 0, len(code)), SYMTAB, link=2, entry_size=24),
    )  # fmt: skip


@pytest.mark.parametrize("where", ["program", "section", "file", "word"])
def test_names_never_reach_the_terminal_as_they_are(lab: Lab, where: str) -> None:
    path = lab.directory / ((NASTY if where == "file" else "named") + ".o")
    path.write_bytes(
        named(
            NASTY if where == "program" else "main",
            "raw_tp/" + NASTY if where == "section" else "xdp",
        )
    )
    options: list[object] = [
        "xdp",
        "dut0",
        path,
        "-n",
        NASTY[::-1] if where == "word" else "no",
        "--netns",
        lab.netns,
    ]
    if where == "section":
        options = ["auto", path]
    done = run_cli("attach", *options)
    assert r"\x1b" in done.error
    assert r"\\x1b" not in done.error
    assert done.error.isprintable()
    out = run_cli("attach", *options, "--json").out
    assert r"\\x1b" in out
    assert out.rstrip("\n").isprintable()


def test_a_program_with_a_hostile_name_runs_and_is_shown_escaped(lab: Lab) -> None:
    path = lab.directory / "named.o"
    path.write_bytes(named(NASTY))
    done = lab("attach", "xdp", "dut0", path)
    for text in (done.out, lab("status").out, lab("stats", "dut0").out, lab("detach").out):
        assert not [one for one in text if not one.isprintable() and one != "\n"]


def test_names_of_4096_characters(lab: Lab) -> None:
    path = lab.directory / "long.o"
    path.write_bytes(named("x" * 4096))
    assert "x" * 100 in refused(lab, path, "-n", "y")
    lab("attach", "xdp", "dut0", path)
    assert lab.programs() == [("dut0", "xdp", "x" * 15)]
    lab("detach")
    path.write_bytes(named("x" * 4097))
    assert "a name has no end, or more than 4096 bytes" in refused(lab, path)
    assert "too long" in refused(lab, lab.directory / ("x" * 4096)).lower()


def test_a_file_that_may_not_be_read(lab: Lab) -> None:
    path = lab.directory / "secret.o"
    path.write_bytes(program())
    path.chmod(0)
    lab.directory.chmod(0o755)
    script = f"""
import os
from netbpf.bpf.object import ObjectSpec
from netbpf.errors import ObjectError
directory = os.open({str(lab.directory)!r}, os.O_RDONLY)
os.setresuid(65534, 65534, 65534)
os.fchdir(directory)
try:
    ObjectSpec.open("secret.o")
except ObjectError as error:
    print(error.message)
"""
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False, cwd=ROOT
    )
    assert "secret.o" in done.stdout, done.stderr
    assert "ermission denied" in done.stdout


def test_one_name_for_two_programs(lab: Lab) -> None:
    code = MOV + EXIT
    path = lab.directory / "twice.o"
    path.write_bytes(elf(
        Part("xdp", code, PROGBITS, CODE),
        Part("xdp/other", code, PROGBITS, CODE),
        Part(".strtab", b"\0main\0", STRTAB),
        Part(".symtab", symbol(0, 0, 0) + symbol(1, FUNC, 1, 0, 16) + symbol(1, FUNC, 2, 0, 16), SYMTAB,
             link=3, entry_size=24),
    ))  # fmt: skip
    assert "2 programs that fit xdp: main (section xdp), main (section xdp/other)" in refused(
        lab, path
    )
    assert "holds 2 programs 'main'" in refused(lab, path, "-n", "main")
    # Its section tells them apart.
    lab("attach", "xdp", "dut0", path, "-n", "xdp/other")


def test_compressed_debug_information_does_no_harm() -> None:
    data = compile_c(
        HEAD + 'SEC("xdp") int f(struct xdp_md *ctx) { return 2; }',
        flags=("-gz",),
        clang=CLANGS[-1],
    )
    spec = ObjectSpec(data)
    with load(spec, spec.select(Hook.XDP), Hook.XDP) as loaded:
        assert loaded.program.info.btf_id


def test_the_first_of_several_licences_counts(lab: Lab) -> None:
    body = 'SEC("xdp") int f(struct xdp_md *ctx) { bpf_trace_printk("x", 2); return 2; }\n'
    two = 'char a[] SEC("license") = "{}"; char b[] SEC("license") = "{}";'
    lab("attach", "xdp", "dut0", lab.compiled(HEAD + body + two.format("GPL", "Proprietary")))
    lab("detach")
    line = lab(
        "attach", "xdp", "dut0", lab.compiled(HEAD + body + two.format("MIT", "GPL")), code=4
    ).err
    assert "GPL" in line


def test_unoptimised_code_says_so_or_runs(lab: Lab) -> None:
    """Without -O2 helpers are called through variables on the stack, which BPF does not have."""
    source = (
        HEAD
        + """
static __always_inline int twice(int x) { return x * 2; }
SEC("xdp") int f(struct xdp_md *ctx) { return twice(1); }
"""
    )
    data = compile_c(source, flags=("-O0",))
    path = lab.directory / "slow.o"
    path.write_bytes(data)
    lab("attach", "xdp", "dut0", path)


def test_a_long_log_is_kept_in_a_file(lab: Lab) -> None:
    path, log = lab.directory / "endless.o", lab.directory / "log"
    path.write_bytes(compile_object("endless"))
    done = lab("attach", "xdp", "dut0", path, "--log", log, code=4)
    assert "after following 1,000,000 instructions" in done.err
    assert len(done.err) < 4096
    text = log.read_text()
    assert len(text) > 1 << 24
    assert text.rstrip().splitlines()[-1].startswith("processed 1000001 insns")


def test_others_go_on_while_the_verifier_works(lab: Lab) -> None:
    """Nobody has to wait for another's verifier: the lock comes after."""
    path = lab.directory / "endless.o"
    path.write_bytes(compile_object("endless"))
    with lab.spawn("attach", "xdp", "dut0", path) as running:
        _until_in_kernel(running.pid)
        lab("attach", "tc", "dut0", "builtin:tc_count", "--lock-timeout", "0")
        assert running.poll() is None
        lab("detach", "tc", "dut0", "--lock-timeout", "0")
        running.terminate()
        _, err = running.communicate(timeout=10)
    assert running.returncode == 143, err
    assert not lab.hooks()


def _until_in_kernel(pid: int) -> None:
    """Until a process has spent a third of a second in the kernel: hardly anything but the verifier does."""
    patience = time.monotonic() + 20
    while int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[12]) < 33:
        assert time.monotonic() < patience


# --- pins ---


@pytest.fixture
def bpffs(lab: Lab, tmp_path: Path) -> Iterator[Path]:
    """A BPF file system of the test's own."""
    made = tmp_path / "bpf"
    made.mkdir()
    subprocess.run(["mount", "-t", "bpf", "bpf", made, "-o", "mode=0700"], check=True)
    yield made
    subprocess.run(["umount", "-l", made], check=True)


SHARED = (
    HEAD
    + """
struct {
	__uint(type, 2); /* an array */
	__uint(max_entries, 1);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
	__type(key, __u32);
	__type(value, __u64);
} MAP SEC(".maps");
SEC("xdp") int f(struct xdp_md *ctx) { __u32 k = 0; return bpf_map_lookup_elem(&MAP, &k) ? 2 : 1; }
"""
)


def test_pin_directories_that_others_may_write_to(lab: Lab, bpffs: Path) -> None:
    path = lab.compiled(SHARED.replace("MAP", "shared"))
    (bpffs / "open").mkdir(mode=0o700)
    (bpffs / "open").chmod(0o777)
    line = refused(lab, path, "--pin-maps", str(bpffs / "open"), code=1)
    assert "is not a directory that only user 0 can write to" in line
    (bpffs / "theirs").mkdir(mode=0o700)
    os.chown(bpffs / "theirs", 65534, 65534)
    assert "that only user 0" in refused(lab, path, "--pin-maps", str(bpffs / "theirs"), code=1)
    (bpffs / "away").symlink_to("theirs")
    assert "that only user 0" in refused(lab, path, "--pin-maps", str(bpffs / "away"), code=1)


def test_a_symbolic_link_in_place_of_a_pin(lab: Lab, bpffs: Path) -> None:
    path = lab.compiled(SHARED.replace("MAP", "shared"))
    (bpffs / "maps").mkdir(mode=0o700)
    (bpffs / "maps" / "shared").symlink_to("/sys/fs/bpf/elsewhere")
    assert "is a symbolic link" in refused(lab, path, "--pin-maps", str(bpffs / "maps"), code=1)


def test_relative_pins_and_pins_too_long(
    lab: Lab, bpffs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = lab.compiled(SHARED.replace("MAP", "shared"))
    monkeypatch.chdir(bpffs)
    lab("attach", "xdp", "dut0", path, "--pin-maps", "maps")
    assert (bpffs / "maps" / "shared").exists()
    lab("detach")
    assert refused(lab, path, "--pin-maps", str(bpffs / ("x" * 300)), code=1)
    long = lab.compiled(SHARED.replace("MAP", "x" * 300), "long")
    assert refused(lab, long, "--pin-maps", "maps", code=1)


VARIABLES = """#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
__u64 first, second;
SEC("xdp") int count(struct xdp_md *ctx) { first++; second += 2; return XDP_PASS; }
char _license[] SEC("license") = "GPL";
"""


@pytest.mark.parametrize(
    ("section_size", "place_of_second", "message"),
    [
        (8, 8, "second lies outside of .bss"),
        (12, 8, "second lies outside of .bss"),
        (16, 4, "variables first and second of .bss overlap"),
        (16, 0, "variables first and second of .bss overlap"),
        (16, 1 << 40, "variable second lies at offset 1099511627776"),
    ],
)
def test_variables_that_do_not_fit_their_section(
    section_size: int, place_of_second: int, message: str
) -> None:
    """They are named: to count in bytes of others would be to lie."""
    data = bytearray(compile_c(VARIABLES))
    spec = ObjectSpec(bytes(data))
    section, symbols = spec.elf.section(".bss"), spec.elf.section(".symtab")
    assert section is not None
    assert symbols is not None
    headers = int.from_bytes(data[0x28:0x30], "little")
    struct.pack_into("<Q", data, headers + 64 * section.number + 0x20, section_size)
    for at in range(symbols.offset, symbols.offset + symbols.size, 24):
        number, place = struct.unpack_from("<HQ", data, at + 6)
        if (number, place) == (section.number, 8):
            struct.pack_into("<Q", data, at + 8, place_of_second)
    with pytest.raises(ObjectError, match=re.escape(message)):
        settings.apply(ObjectSpec(bytes(data)), ["second=5"])
