"""Reading a source and judging a request, before any compiler is asked."""

from pathlib import Path

from netbpf.bpf.elf import read_file
from netbpf.compiler.dialect import is_bcc
from netbpf.compiler.result import Options
from netbpf.errors import ObjectError, UsageError
from netbpf.text import escape


def check(options: Options) -> None:
    """UsageError for what no compiler could make sense of."""
    if options.frontend not in ("auto", "clang", "bcc"):
        raise UsageError(f"unknown frontend {options.frontend!r}", hint="choose auto, clang or bcc")
    for directory in options.include_dirs:
        if not Path(directory).is_dir():
            raise UsageError(f"include directory {escape(directory)!r} does not exist")
    for define in options.defines:
        if not define.partition("=")[0].isidentifier():
            raise UsageError(
                f"{escape(define)!r} defines no name", hint="write -D NAME or -D NAME=VALUE"
            )


def read_source(source: str) -> bytes:
    """The content of a source. Raises ObjectError where it is no regular file that can be read, or no text."""
    content = read_file(source)
    if content.startswith(b"\x7fELF"):
        raise ObjectError(
            f"{escape(source)} is a compiled object, not C source", hint="use it as it is"
        )
    if b"\0" in content:
        raise ObjectError(f"{escape(source)} is not C source: it holds NUL bytes")
    return content


def wants_bcc(content: bytes, options: Options) -> bool:
    """Whether a source goes to BCC: because ``options`` say so, or because it is written for it."""
    if options.frontend != "auto":
        return options.frontend == "bcc"
    return is_bcc(content.decode(errors="replace"))
