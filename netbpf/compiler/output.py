"""Where objects go, and writing them so that a reader sees the old file or the new one, never half of one."""

import os
import stat
from collections.abc import Sequence
from pathlib import Path

from netbpf.compiler.result import StrPath
from netbpf.errors import NetbpfError, UsageError
from netbpf.text import escape


def object_name(source: Path) -> str:
    """``x.bpf.c`` gives ``x.bpf.o``, ``x.c`` gives ``x.o``; anything else keeps its name and gains ``.o``."""
    return source.name[:-2] + ".o" if source.suffix == ".c" else source.name + ".o"


def plan(sources: Sequence[Path], output: StrPath | None) -> list[Path]:
    """The object of each source, as with cc: beside you, in the directory ``output``, or in the file ``output``.

    Raises UsageError where two sources would share an object, an object would replace a source, or the place is no
    regular file.
    """
    if not sources:
        raise UsageError("nothing to compile")
    text = "" if output is None else os.fspath(output)
    if output is not None and not text:
        raise UsageError("the output has an empty name")
    into = Path(text) if output is not None else Path()
    if output is None or into.is_dir():
        planned = [into / object_name(source) for source in sources]
    elif text.endswith("/"):
        raise UsageError(
            f"there is no directory {escape(text)}", hint=f"make it first: mkdir {escape(text)}"
        )
    elif len(sources) > 1:
        raise UsageError(
            f"one output file {escape(text)} for {len(sources)} sources",
            hint="name an existing directory, or leave -o out",
        )
    else:
        planned = [into]
    seen: dict[Path, Path] = {}
    for source, target in zip(sources, planned, strict=True):
        if target in seen:
            raise UsageError(
                f"{escape(str(source))} and {escape(str(seen[target]))} would both become {escape(str(target))}"
            )
        seen[target] = source
        if any(_same(target, one) for one in sources):
            raise UsageError(
                f"the object would replace the source {escape(str(target))}",
                hint="name the output with -o",
            )
        check_replaceable(target)
    return planned


def _same(one: Path, other: Path) -> bool:
    try:
        return one.samefile(other)
    except OSError:
        return False


def check_replaceable(path: Path) -> None:
    """UsageError where something is at ``path`` that is not a regular file: a device, a FIFO, a symbolic link."""
    try:
        mode = path.lstat().st_mode
    except OSError:
        return  # nothing there; writing tells what else may be wrong
    if not stat.S_ISREG(mode):
        kind = "a symbolic link" if stat.S_ISLNK(mode) else "not a regular file"
        raise UsageError(f"{escape(str(path))} is {kind}, and is not replaced")


def write_atomically(path: Path, data: bytes, mode: int = 0o666) -> None:
    """Write a file beside its place and rename it there; the umask applies. Raises NetbpfError naming the file."""
    check_replaceable(path)
    temporary = path.with_name(f".netbpf-{os.urandom(8).hex()}")
    try:
        fd = os.open(
            temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, mode
        )
        try:
            with open(fd, "wb") as file:
                file.write(data)
            temporary.replace(path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
    except OSError as error:
        raise NetbpfError(f"cannot write {escape(str(path))}: {error.strerror}") from None
