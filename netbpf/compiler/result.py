"""What compiling takes and gives."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Frontend = Literal["auto", "clang", "bcc"]
StrPath = str | os.PathLike[str]


@dataclass(frozen=True, slots=True)
class Options:
    """How to compile.

    ``defines`` are ``NAME`` or ``NAME=VALUE``; ``clang`` is a command or a path, None for the newest; ``color`` asks
    the compiler for colours in what it says.
    """

    include_dirs: tuple[str, ...] = ()
    defines: tuple[str, ...] = ()
    clang: str | None = None
    frontend: Frontend = "auto"
    color: bool = False


@dataclass(frozen=True, slots=True)
class Compiled:
    """One source compiled in memory.

    ``headers`` are the absolute paths of the files it included, None where they could not be told. ``warnings`` is
    the compiler's own text, "" for none; ``notes`` are netbpf's remarks, one line each.
    """

    object: bytes
    compiler: str
    frontend: Literal["clang", "bcc"]
    headers: tuple[str, ...] | None
    warnings: str = ""
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class CompileResult:
    """One source compiled into a file.

    ``compiler`` is for people ("clang 19.1.7", "bcc 0.26.0"); ``size`` is in bytes and ``seconds`` is what it took,
    both of the object in ``output``. ``cached`` says that it was there already and nothing was compiled.
    """

    source: Path
    output: Path
    compiler: str
    frontend: Literal["clang", "bcc"]
    size: int
    seconds: float
    warnings: str = ""
    notes: tuple[str, ...] = ()
    cached: bool = False
