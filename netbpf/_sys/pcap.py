"""libpcap's compiler for filter expressions (pcap-filter(7)), and its own interpreter, the yardstick of the tests.

The library is loaded when it is first needed: netbpf works without it, but for filters.
"""

import ctypes
import functools
import re
from typing import Final

from netbpf.errors import NotSupportedError, PacketTextError, ToolMissingError, UsageError
from netbpf.text import escape

_ETHERNET: Final = 1  # DLT_EN10MB
_NETMASK_UNKNOWN: Final = 0xFFFFFFFF  # PCAP_NETMASK_UNKNOWN
_OPTIMIZE: Final = 1
_INSTRUCTION: Final = 8  # bytes of a struct bpf_insn
# What may complete the beginning of a filter: nothing, an operand, brackets that are open.
_OPERANDS: Final = ("", "tcp", "1", "1.1.1.1", "1::1", "1:1:1:1:1:1", "1]=1", "]=1", "=1", "1=1")
_ENDS: Final = tuple(one + closing for closing in ("", ")", "))") for one in _OPERANDS)
LARGEST_PACKET: Final = 262_144  # bytes; MAXIMUM_SNAPLEN
# Instructions that are given to libpcap's optimizer. Its time grows with the cube of their number (0.5 s for 6,000, 4 s
# for 12,000, measured with libpcap 1.10.3), and no signal ends it; a quarter may be left, and 4096 can be loaded.
_MOST_UNOPTIMIZED: Final = 16_384
_LONGEST: Final = 32_768  # characters: what is much longer takes minutes without being optimized
_SMALLER: Final = "name networks instead of hosts, port ranges instead of ports"


class _Program(ctypes.Structure):
    """struct bpf_program (pcap/bpf.h)."""

    _fields_ = (("length", ctypes.c_uint), ("instructions", ctypes.c_void_p))


class _Header(ctypes.Structure):
    """struct pcap_pkthdr (pcap/pcap.h)."""

    _fields_ = (
        ("seconds", ctypes.c_long),
        ("microseconds", ctypes.c_long),
        ("captured", ctypes.c_uint32),
        ("length", ctypes.c_uint32),
    )


@functools.cache
def _library() -> ctypes.CDLL:
    for name in ("libpcap.so.0.8", "libpcap.so.1"):
        try:
            found = ctypes.CDLL(name)
        except OSError:
            continue
        found.pcap_open_dead.restype = ctypes.c_void_p
        found.pcap_open_dead.argtypes = (ctypes.c_int, ctypes.c_int)
        found.pcap_close.argtypes = (ctypes.c_void_p,)
        found.pcap_compile.argtypes = (
            ctypes.c_void_p, ctypes.POINTER(_Program), ctypes.c_char_p, ctypes.c_int, ctypes.c_uint32,
        )  # fmt: skip
        found.pcap_geterr.restype = ctypes.c_char_p
        found.pcap_geterr.argtypes = (ctypes.c_void_p,)
        found.pcap_freecode.argtypes = (ctypes.POINTER(_Program),)
        found.pcap_offline_filter.argtypes = (
            ctypes.POINTER(_Program), ctypes.POINTER(_Header), ctypes.c_char_p,
        )  # fmt: skip
        return found
    raise ToolMissingError(
        "filters are compiled by libpcap, which is not installed",
        hint="apt install libpcap0.8, or capture without a filter",
    )


def compile_filter(expression: str, *, optimize: bool = True) -> bytes:
    """The classic BPF instructions (struct bpf_insn, 8 bytes each) of an expression for Ethernet frames.

    Raises PacketTextError with libpcap's words where it is none, ToolMissingError without libpcap, NotSupportedError
    for one with which it would take minutes.
    """
    if "\0" in expression:
        raise UsageError("a filter cannot hold a zero byte")
    if len(expression) > _LONGEST:
        raise NotSupportedError(
            f"the filter is too large: {len(expression)} characters, of {_LONGEST} at most",
            hint=_SMALLER,
        )
    if optimize:
        number = len(compile_filter(expression, optimize=False)) // _INSTRUCTION
        if number > _MOST_UNOPTIMIZED:
            raise NotSupportedError(
                f"the filter is too large: libpcap makes {number} instructions of it, and can optimize "
                f"{_MOST_UNOPTIMIZED}",
                hint=_SMALLER,
            )
    library = _library()
    handle = library.pcap_open_dead(_ETHERNET, LARGEST_PACKET)
    if not handle:
        raise MemoryError
    try:
        program = _Program()
        flag = _OPTIMIZE if optimize else 0
        given = expression.encode(errors="surrogateescape")
        if library.pcap_compile(handle, ctypes.byref(program), given, flag, _NETMASK_UNKNOWN):
            words = library.pcap_geterr(handle).decode(errors="replace")
            raise _refused(library, handle, expression, words)
        try:
            return ctypes.string_at(program.instructions, program.length * _INSTRUCTION)
        finally:
            library.pcap_freecode(ctypes.byref(program))
    finally:
        library.pcap_close(handle)


def _refused(library: ctypes.CDLL, handle: int, text: str, words: str) -> PacketTextError:
    """The error for an expression, with its place as far as that can be told: libpcap says only what is wrong."""
    place = (0, max(len(text), 1))
    if "syntax error" in words:
        place = _place(library, handle, text)
    else:
        quoted = next((one for one in re.findall(r"[\w.:/-]+", words)[::-1] if one in text), "")
        if quoted:
            place = (text.index(quoted), len(quoted))
    return PacketTextError(
        f"libpcap cannot compile the filter: {escape(words)}", text, *place,
        hint="man 7 pcap-filter has the language; quote what the shell would take",
    )  # fmt: skip


def _place(library: ctypes.CDLL, handle: int, text: str) -> tuple[int, int]:
    """The first word with which no filter can begin any more, or the end, where something is missing."""
    if any(_compiles(library, handle, f"{text} {end}") for end in _ENDS if end):
        return len(text), 1
    tokens = [(found.start(), len(found[0])) for found in re.finditer(r"[\w.:/-]+|\S", text)]
    for at, length in reversed(tokens):
        if any(_compiles(library, handle, text[:at] + end) for end in _ENDS):
            return at, length
    return 0, max(len(text), 1)


def _compiles(library: ctypes.CDLL, handle: int, text: str) -> bool:
    program = _Program()
    given = text.encode(errors="surrogateescape")
    if library.pcap_compile(handle, ctypes.byref(program), given, 0, _NETMASK_UNKNOWN):
        return False
    library.pcap_freecode(ctypes.byref(program))
    return True


def matches(code: bytes, packet: bytes) -> bool:
    """Whether libpcap's interpreter says that a packet, captured as a whole, passes classic BPF instructions."""
    instructions = ctypes.create_string_buffer(code, len(code))
    program = _Program(len(code) // 8, ctypes.addressof(instructions))
    header = _Header(0, 0, len(packet), len(packet))
    found = _library().pcap_offline_filter(ctypes.byref(program), ctypes.byref(header), packet)
    return bool(found)
