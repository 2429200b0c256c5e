"""Objects for tests, compiled by every clang that is installed, without netbpf's own compiler."""

import functools
import platform
import shutil
import subprocess
import tempfile
from pathlib import Path

OBJECTS = Path(__file__).parent / "objects"
CLANGS = tuple(f"clang-{n}" for n in range(14, 40) if shutil.which(f"clang-{n}"))
_MULTIARCH = f"/usr/include/{platform.machine()}-linux-gnu"


@functools.cache
def compile_c(
    source: str,
    *,
    clang: str = CLANGS[0],
    cpu: str = "v3",
    debug: bool = True,
    target: str = "bpf",
    name: str = "made",
    flags: tuple[str, ...] = (),
) -> bytes:
    """The object of some C, which finds ``check.h`` beside it; AssertionError where it does not compile."""
    options = ["-O2", f"-I{OBJECTS}", "-idirafter", _MULTIARCH, *flags]
    options += ["-g"] if debug else []
    options += [f"-mcpu={cpu}"] if target.startswith("bpf") else []
    with tempfile.TemporaryDirectory() as directory:
        written, made = Path(directory, f"{name}.bpf.c"), Path(directory, "made.o")
        written.write_text(source)
        command = [clang, "-target", target, *options, "-c", str(written), "-o", str(made)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return made.read_bytes()


def compile_object(
    name: str, *, clang: str = CLANGS[0], cpu: str = "v3", debug: bool = True
) -> bytes:
    """The object of ``objects/NAME.bpf.c``."""
    source = (OBJECTS / f"{name}.bpf.c").read_text()
    return compile_c(source, clang=clang, cpu=cpu, debug=debug, name=name)
