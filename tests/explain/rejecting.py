"""Sources that the verifier must refuse: what their heads expect, and what the kernel made of them."""

import functools
import json
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

from netbpf.bpf import rejection
from netbpf.bpf.loader import load
from netbpf.bpf.object import ObjectSpec
from netbpf.constants import Hook
from netbpf.errors import VerifierError
from netbpf.explain.model import CodeLine, RejectedCode
from tests.support.compiling import CLANGS, compile_c

SOURCES = Path(__file__).parent / "sources"
ROOT = Path(__file__).parents[2]


@dataclass(frozen=True, slots=True)
class Expected:
    """The head of a source: reason's id, words of reason and advice, line marked HERE, and how to load it."""

    name: str
    path: Path
    reason: str
    words: tuple[str, ...]
    line: int | None
    hook: Hook
    capabilities: tuple[str, ...]
    flags: tuple[str, ...]


def expected(path: Path) -> Expected:
    text = path.read_text()
    heads = dict(re.findall(r"^/\* (reason|words|hook|caps|flags): (.*?) \*/$", text, re.MULTILINE))
    marked = [n for n, line in enumerate(text.splitlines(), 1) if "/* HERE */" in line]
    assert len(marked) <= 1, path
    return Expected(
        path.name.removesuffix(".bpf.c"),
        path,
        heads["reason"],
        tuple(heads["words"].split(", ")),
        marked[0] if marked else None,
        Hook.TC_INGRESS if heads.get("hook") == "tc" else Hook.XDP,
        tuple(heads["caps"].split(", ")) if "caps" in heads else (),
        tuple(heads.get("flags", "-g").split()),
    )


ALL = {one.name: one for one in map(expected, sorted(SOURCES.glob("*.bpf.c")))}


def compiled(one: Expected, directory: Path, *flags: str, clang: str = CLANGS[0]) -> Path:
    """The object of a source; -w because these programs are wrong on purpose."""
    made = directory / f"{one.name}.bpf.o"
    wanted = (f"-I{SOURCES}", "-w", *(flags or one.flags))
    source, home = one.path.read_text(), one.path.parent
    content = compile_c(source, clang=clang, debug=False, name=one.name, flags=wanted, home=home)
    made.write_bytes(content)
    return made


def refusal(path: Path, hook: Hook, *, lines: bool = True) -> VerifierError:
    """The error of loading an object's only program, without its line info if so wished."""
    spec = ObjectSpec.open(path)
    if not lines:
        spec.ext = None
    try:
        load(spec, spec.select(hook), hook).close()
    except VerifierError as error:
        return error
    raise AssertionError(f"{path.name} was loaded")


def refusal_without_perfmon(path: Path, hook: Hook, capabilities: tuple[str, ...]) -> VerifierError:
    """The same in a process with these capabilities alone; a user without CAP_PERFMON is trusted less."""
    allowed = ",".join(f"+{name}" for name in capabilities)
    done = subprocess.run(
        ["setpriv", f"--bounding-set=-all,{allowed}", sys.executable, "-m", __name__, str(path), hook.value],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    message, hint, log, code = json.loads(done.stdout)
    lines = tuple(CodeLine(*line) for line in code[2])
    functions = tuple((at, name) for at, name in code[3])
    return VerifierError(
        message, hint=hint, log=log, code=RejectedCode(code[0], code[1], lines, functions)
    )


def _child(path: str, hook: str) -> None:
    # The loader blames the missing capability alone; here the reason is wanted.
    with mock.patch.object(rejection, "missing", return_value=()):
        error = refusal(Path(path), Hook(hook))
    code = error.code or RejectedCode()
    told = [code.program, code.kind, code.lines, code.functions]
    sys.stdout.write(json.dumps([error.message, error.hint, error.log, told]))


@functools.cache
def cached(name: str, directory: Path, *flags: str, clang: str = CLANGS[0]) -> VerifierError:
    """The error of a source, compiled and refused once."""
    one = ALL[name]
    path = compiled(one, directory, *flags, clang=clang)
    if one.capabilities:
        return refusal_without_perfmon(path, one.hook, one.capabilities)
    return refusal(path, one.hook)


if __name__ == "__main__":
    _child(*sys.argv[1:])
