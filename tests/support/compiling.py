"""Objects for tests, compiled by every clang that is installed, without netbpf's own compiler."""

import contextlib
import functools
import hashlib
import json
import platform
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

OBJECTS = Path(__file__).parent / "objects"
CLANGS = tuple(f"clang-{n}" for n in range(14, 40) if shutil.which(f"clang-{n}"))
_KEPT = Path(__file__).parents[2] / "build" / "test-objects"
_KEPT_SECONDS = 7 * 86400
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
    home: Path | None = None,
) -> bytes:
    """The object of some C, which finds ``check.h`` beside it; AssertionError where it does not compile.

    It says that its source is called ``name`` and lies in ``home``, or else in a directory that is gone.
    """
    options = ["-O2", f"-I{OBJECTS}", "-idirafter", _MULTIARCH, *flags]
    options += ["-g"] if debug else []
    options += [f"-mcpu={cpu}"] if target.startswith("bpf") else []
    command = [clang, "-target", target, *options]
    kept = _KEPT / f"{_key(source, f'{home}/{name}', command)}.o"
    if (found := _look_up(kept)) is not None:
        return found
    with tempfile.TemporaryDirectory() as directory:
        written, made = Path(directory, f"{name}.bpf.c"), Path(directory, "made.o")
        headers = Path(directory, "made.d")
        written.write_text(source)
        command += [f"-ffile-prefix-map={directory}={home}"] if home else []
        command += ["-c", str(written), "-o", str(made), "-MD", "-MF", str(headers)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        content = made.read_bytes()
        _keep(kept, content, headers.read_text().replace("\\\n", " ").split()[1:], directory)
        return content


# --- one compilation for all workers, and for the next run -----------------------------------------


def _key(source: str, name: str, command: list[str]) -> str:
    """What the object depends on besides headers."""
    binary = Path(shutil.which(command[0]) or command[0]).stat()
    words = [source, name, *command, binary.st_ino, binary.st_size, binary.st_mtime_ns]
    return hashlib.sha256(json.dumps(words).encode()).hexdigest()


def _state(path: str) -> list[int] | None:
    try:
        found = Path(path).stat()
    except OSError:
        return None
    return [found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns]


def _look_up(kept: Path) -> bytes | None:
    """The object, unless a header has changed since; its manifest stands before it on a line."""
    try:
        manifest, _, content = kept.read_bytes().partition(b"\n")
    except FileNotFoundError:
        return None
    headers = json.loads(manifest)
    if any(_state(path) != state for path, state in headers.items()):
        return None
    return content


def _keep(kept: Path, content: bytes, headers: list[str], directory: str) -> None:
    if any("$" in one or "\\" in one or not one.startswith("/") for one in headers):
        return  # make(1) writes such a name in another way, or it depends on the current directory
    manifest = {one: _state(one) for one in headers if not one.startswith(directory)}
    _forget()
    # Written aside and renamed: another worker sees all of it or nothing.
    handle, temporary = tempfile.mkstemp(dir=_KEPT)
    with open(handle, "wb") as file:
        file.write(json.dumps(manifest).encode() + b"\n" + content)
    Path(temporary).rename(kept)


@functools.cache
def _forget() -> None:
    """Make the directory, and remove what is old from it; once in a process, since there are many files."""
    _KEPT.mkdir(parents=True, exist_ok=True)
    long_ago = time.time() - _KEPT_SECONDS
    for one in _KEPT.iterdir():
        with contextlib.suppress(FileNotFoundError):  # another worker was faster
            if one.stat().st_mtime < long_ago:
                one.unlink()


def compile_object(
    name: str, *, clang: str = CLANGS[0], cpu: str = "v3", debug: bool = True
) -> bytes:
    """The object of ``objects/NAME.bpf.c``."""
    source = (OBJECTS / f"{name}.bpf.c").read_text()
    return compile_c(source, clang=clang, cpu=cpu, debug=debug, name=name)
