"""Compiling a source with netbpf's headers as `make bpf` does, with any clang, and without netbpf's own compiler."""

import platform
import subprocess
from pathlib import Path
from typing import Final

from tests.support.compiling import CLANGS

ROOT: Final = Path(__file__).parents[2]
CLANG_14_AND_NEWEST: Final = tuple(dict.fromkeys((CLANGS[0], CLANGS[-1])))


def build(source: Path, clang: str, made: Path, cpu: str = "v3") -> None:
    """Compile as `make bpf` does; whatever the compiler says is an error."""
    multiarch = f"/usr/include/{platform.machine()}-linux-gnu"
    done = subprocess.run(
        [
            clang, "-O2", "-g", "-target", "bpf", f"-mcpu={cpu}", "-Wall", "-Wextra", "-Werror",
            "-Inetbpf/include", "-idirafter", multiarch, "-c", str(source), "-o", str(made),
        ],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
