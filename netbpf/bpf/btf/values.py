"""What the bytes of maps and variables become: plain values, the same for JSON and for people.

The form depends on the type alone, never on the bytes, so a script can rely on it:

===============================  ==================================================================
C type                           value
===============================  ==================================================================
integers up to 128 bits          number; bitfields too; ``char`` alone is a number
``__be16``, ``__be32``, __be64   number, in the host's byte order
``bool``                         true or false; a byte other than 0 and 1 is that number
enum                             name; a value without a name is its number (*)
``float``, ``double``            number; ``"nan"``, ``"inf"``, ``"-inf"`` where JSON has none
pointer                          text, ``"0xffff..."``
``char[N]``                      text without the NULs at its end (**)
``unsigned char[6]``             MAC address, ``"02:00:00:00:00:01"``
``struct in_addr``, in_addr_t    IPv4 address, ``"10.0.0.1"``
``struct in6_addr``              IPv6 address, ``"2001:db8::1"``
``__be32``, ``unsigned char[4]`` IPv4 address where the name of the member, variable, map or typedef
                                 says so: ``saddr``, ``dst_ip``, ``addr4``, ``gateway``, ...
``unsigned char[16]``            IPv6 address where the name says so; with a 6 in it, __be32[4] too
other arrays                     list; bytes of an ``unsigned char[N]`` are numbers
struct                           object of its members in order; members of anonymous structs and
                                 unions stand among them, as in C
union                            object of all its members, each one a view of the same bytes
flexible array                   list of what lies behind the struct, if anything does
DATASEC (.bss, .data, .rodata)   object of variables; of a name's second variable (statics of two
                                 functions), ``name@offset``
key of an LPM trie               ``"10.0.0.0/8"``, ``"2001:db8::/32"`` or ``"02:00:00:00:00:00/24"``
                                 where a prefix length is followed by 4, 16 or 6 bytes of one address
                                 (an LPM trie compares bytes from the first, so their order is sure)
===============================  ==================================================================

A plain ``__u32 saddr`` stays a number: its type does not say in which order the bytes are.

(*) BTF has 32 bits per value of an ENUM. clang before 15 writes 64-bit enums so, cut; they are
numbers here, because their names would lie.

(**) So that nothing is lost, bytes that are not UTF-8 and NULs inside are written ``\\xNN`` and a
backslash is doubled. Control characters stay as they are: ``format_value`` makes text fit for a
terminal, JSON has escapes of its own.

``netbpf.bpf.btf.encode`` takes every value back to the same bytes. Lost are only padding
and the bits by which one NaN differs from another; refused is a bool that is neither 0 nor 1.
"""

import json
import re
from typing import TypeAlias

Buffer: TypeAlias = bytes | bytearray | memoryview
Value: TypeAlias = "bool | int | float | str | list[Value] | dict[str, Value] | None"

_NAME = re.compile(r"[A-Za-z0-9_.@$]+", re.ASCII)
# Words, paths, addresses, prefixes and pointers need no quotes.
_WORD = re.compile(r"[A-Za-z_/.:-][\w/.:-]*|[0-9a-f]+[.:][0-9a-f.:/]*|0x[0-9a-f]+", re.ASCII)


def _quoted(text: str) -> str:
    quoted = json.dumps(text, ensure_ascii=False)
    if quoted.isprintable():
        return quoted
    # What JSON lets through but a terminal obeys or hides: C1 controls, direction marks, surrogates.
    return "".join(c if c.isprintable() else json.dumps(c)[1:-1] for c in quoted)


def format_value(value: Value) -> str:
    """A value on one line for people: ``{port: 53, proto: udp, name: "a b"}``.

    ``encode_text`` reads it back. Nothing in it can steer a terminal.
    """
    if isinstance(value, str):
        bare = _WORD.fullmatch(value) and value not in ("true", "false", "null")
        return value if bare else _quoted(value)
    if isinstance(value, dict):
        parts = (f"{format_name(key)}: {format_value(part)}" for key, part in value.items())
        return "{" + ", ".join(parts) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(format_value, value)) + "]"
    if value is None or isinstance(value, bool):
        return json.dumps(value)
    return repr(value)


def format_name(name: str) -> str:
    """The name of a member as ``format_value`` writes it."""
    return name if _NAME.fullmatch(name) else _quoted(name)
