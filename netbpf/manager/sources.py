"""What the OBJECT argument can be: an object file, a C source that is compiled on the fly, or ``builtin:NAME``."""

import os
from pathlib import Path
from typing import NamedTuple

from netbpf.compiler.result import Options
from netbpf.errors import ObjectError
from netbpf.text import did_you_mean, escape

BUILTIN = "builtin:"
_OBJECTS = Path(__file__).parent.parent / "_objects"
_SUFFIX = ".bpf.o"
# Others are netbpf's own tools: programs for tracepoints, which nobody attaches to an interface.
_HOOKS = ("xdp_", "tc_")


def builtin_names() -> list[str]:
    """The programs shipped with netbpf."""
    names = (path.name.removesuffix(_SUFFIX) for path in _OBJECTS.glob(f"*{_SUFFIX}"))
    return sorted(name for name in names if name.startswith(_HOOKS))


def builtin(name: str) -> Path:
    """The compiled object of a shipped program; ObjectError with near names."""
    path = _OBJECTS / (name + _SUFFIX)
    if "/" in name or not name.startswith(_HOOKS) or not path.is_file():
        names = builtin_names()
        hint = (
            did_you_mean(name, names, "the shipped programs are") or "compile them first: make bpf"
        )
        raise ObjectError(f"no program {escape(BUILTIN + name)} is shipped with netbpf", hint=hint)
    return path


class Source(NamedTuple):
    """The object behind an OBJECT argument: ``shown`` is what the user gave, ``notes`` what the compiler remarked."""

    path: Path
    shown: str
    notes: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """What messages and map names call it: a compiled source by its own name, not by that in the cache."""
        return os.fspath(self.path) if self.shown.startswith(BUILTIN) else self.shown


def find_source(argument: str, options: Options) -> Source:
    """The object file that an OBJECT argument stands for, compiled into the private cache where it is a C source.

    Raises ObjectError, CompileError, ToolMissingError.
    """
    if argument.startswith(BUILTIN):
        return Source(builtin(argument.removeprefix(BUILTIN)), argument)
    path = Path(argument)
    if path.suffix == ".c":
        from netbpf.compiler import cached_object

        result = cached_object(path, options)
        warnings = (result.warnings.rstrip("\n"),) if result.warnings else ()
        return Source(result.output, os.path.realpath(path), warnings + result.notes)
    # Not Path.exists, which raises for names that are too long.
    if not os.path.exists(argument) and argument in builtin_names():  # noqa: PTH110
        raise ObjectError(
            f"there is no file {escape(argument)}",
            hint=f"the shipped program is {BUILTIN}{argument}",
        )
    return Source(path, os.path.realpath(path))
