"""The kernel's symbols, by address and by name (/proc/kallsyms, proc(5))."""

import functools
from pathlib import Path

_KALLSYMS = Path("/proc/kallsyms")


@functools.cache
def _text() -> bytes:
    """All of it: 200,000 lines that are searched, not taken apart."""
    try:
        return b"\n" + _KALLSYMS.read_bytes()
    except OSError:
        return b"\n"


def forget() -> None:
    """Read it anew next time: programs come and go, and have symbols too."""
    _text.cache_clear()


def hidden() -> bool:
    """Whether the kernel shows no addresses: kernel.kptr_restrict, or no CAP_SYSLOG."""
    first = _text()[1:17]
    return not first.strip(b"0")


def has_symbol(name: str) -> bool:
    """Whether the kernel has a symbol of a name."""
    raw = name.encode(errors="backslashreplace")
    text = _text()
    return b" " + raw + b"\n" in text or b" " + raw + b"\t" in text


def symbol_at(address: int) -> str | None:
    """The symbol that begins at an address; None where there is none, or the kernel hides it."""
    if not address:
        return None
    text = _text()
    at = text.find(b"\n%016x " % address)
    if at < 0:
        return None
    line = text[at + 1 : text.find(b"\n", at + 1)]
    return line.split(None, 3)[2].decode(errors="backslashreplace")


def address_of(name: str) -> int:
    """Where a symbol is; 0 where there is none, or the kernel hides it."""
    text = _text()
    raw = name.encode(errors="backslashreplace")
    for end in (b"\n", b"\t"):
        at = text.find(b" " + raw + end)
        if at >= 0:
            start = text.rfind(b"\n", 0, at) + 1
            return int(text[start : start + 16], 16)
    return 0
