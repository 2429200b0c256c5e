"""What libbpf makes of an object's CO-RE relocations, told by bpftool's debug output, and what netbpf makes of them."""

import json
import re
import struct
import subprocess
from pathlib import Path
from typing import NamedTuple

from netbpf.bpf.core import Resolution, relocate_image
from netbpf.bpf.linker import link
from netbpf.bpf.object import ObjectSpec
from tests.support.compiling import compile_c

HERE = Path(__file__).parent
_RELO = r"prog '(?P<prog>\w+)': relo #\d+: "
_PATCHED = re.compile(
    _RELO
    + r"patched insn #(?P<insn>\d+) \([\w/]+\) (?P<what>off|imm|imm64|mem_sz) (?P<old>\d+) -> (?P<new>\d+)"
)
_POISONED = re.compile(_RELO + r"substituting insn #(?P<insn>\d+) w/ invalid insn")
_FAILED = re.compile(r"failed to (perform CO-RE relocations|relocate: )")
_SIZES = {8: 0x18, 4: 0x00, 2: 0x08, 1: 0x10}


class Edit(NamedTuple):
    """One change of an instruction: of its ``off``, ``imm``, ``imm64`` or ``mem_sz``, or ``poison``."""

    insn: int
    what: str
    old: int = 0
    new: int = 0


class Verdict(NamedTuple):
    """What libbpf did: edits and tags by program; ``failed`` where it gave up on the relocations."""

    edits: dict[str, list[Edit]]
    failed: bool
    tags: dict[str, str]
    log: str


def compile_object(source: Path, out: Path, clang: str, *includes: Path, cpu: str = "v2") -> Path:
    """An object of a source; the compiler's words are in the error."""
    headers = (Path("/usr/include/x86_64-linux-gnu"), HERE, *includes)
    flags = ("-fno-crash-diagnostics", *(f"-I{one}" for one in headers))
    name = source.name.removesuffix(".bpf.c")
    out.write_bytes(compile_c(source.read_text(), clang=clang, cpu=cpu, name=name, flags=flags))
    return out


def libbpf(path: Path) -> Verdict:
    """Load all programs of an object in a mount namespace of its own. What the verifier says does not matter."""
    script = """
        mount -t bpf bpf /sys/fs/bpf && bpftool -d prog loadall "$0" /sys/fs/bpf/all >&2
        for pin in /sys/fs/bpf/all/*; do bpftool -j prog show pinned $pin; echo; done
    """
    done = subprocess.run(
        ["unshare", "-m", "sh", "-c", script, path], capture_output=True, text=True, check=False
    )
    edits: dict[str, list[Edit]] = {}
    for line in done.stderr.splitlines():
        if found := _PATCHED.search(line):
            edit = Edit(int(found["insn"]), found["what"], int(found["old"]), int(found["new"]))
            edits.setdefault(found["prog"], []).append(edit)
        elif found := _POISONED.search(line):
            edits.setdefault(found["prog"], []).append(Edit(int(found["insn"]), "poison"))
    shown = [json.loads(line) for line in done.stdout.splitlines() if line]
    tags = {one["name"]: one["tag"] for one in shown if "tag" in one}
    return Verdict(edits, bool(_FAILED.search(done.stderr)), tags, done.stderr)


def apply(insns: bytearray, edits: list[Edit], start: int = 0) -> None:
    """Do libbpf's edits to a function that begins at instruction ``start``, the simplest way there is."""
    for edit in edits:
        at = (start + edit.insn) * 8
        if edit.what == "poison":
            insns[at : at + 8] = bytes.fromhex("85000000 1023ad0b")
        elif edit.what == "off":
            struct.pack_into("<H", insns, at + 2, edit.new & 0xFFFF)
        elif edit.what == "mem_sz":
            insns[at] = insns[at] & ~0x18 | _SIZES[edit.new]
        else:
            struct.pack_into("<I", insns, at + 4, edit.new & 0xFFFFFFFF)
            if edit.what == "imm64":
                struct.pack_into("<I", insns, at + 12, edit.new >> 32)


class Ours(NamedTuple):
    """One program after netbpf's relocations, and what it would be after libbpf's."""

    insns: bytes
    expected: bytes
    resolutions: list[Resolution]


def netbpf(path: Path, theirs: Verdict) -> dict[str, Ours]:
    """The programs of an object, relocated for the running kernel."""
    spec = ObjectSpec.open(path)
    done = {}
    for program in spec.programs:
        image = link(spec, program.function)
        expected = bytearray(image.insns)
        for start, function, _ in image.functions:
            apply(expected, theirs.edits.get(function.name, []), start)
        resolutions = relocate_image(image, spec, program.name)
        done[program.name] = Ours(bytes(image.insns), bytes(expected), resolutions)
    return done
