"""Values as people type them: numbers, addresses, and lists and structs in a relaxed JSON.

``{port: 53, proto: udp, allow: [10.0.0.1, "a b"]}`` needs no quotes where nothing is ambiguous;
JSON itself is understood as well. What a bare word means is decided by the type it goes to.
"""

import json
import re
from typing import TypeAlias

from netbpf.errors import UsageError
from netbpf.text import escape

Literal: TypeAlias = "str | list[Literal] | dict[str, Literal]"

_NUMBER = re.compile(
    r"[+-]?(?:0x[0-9a-f_]+|0o[0-7_]+|0b[01_]+|[0-9][0-9_]*)", re.ASCII | re.IGNORECASE
)
_MAC = re.compile(
    r"[0-9a-f]{2}([:-])(?:[0-9a-f]{2}\1){4}[0-9a-f]{2}|(?:[0-9a-f]{4}\.){2}[0-9a-f]{4}",
    re.ASCII | re.IGNORECASE,
)
_STRING = re.compile(r'"(?:[^"\\]|\\.)*"', re.DOTALL)
_MAX_NESTING = 64

# /etc/protocols may be absent; these are what packet programs ask for (IANA protocol numbers).
PROTOCOLS = {
    "icmp": 1, "igmp": 2, "ipip": 4, "tcp": 6, "udp": 17, "ipv6": 41, "gre": 47, "esp": 50,
    "ah": 51, "icmpv6": 58, "ospf": 89, "sctp": 132, "udplite": 136,
}  # fmt: skip


class Quoted(str):
    """Text that stood in quotes."""

    __slots__ = ()


def shown(value: object) -> str:
    """A value for an error message: short, on one line."""
    text = f"'{value}'" if isinstance(value, str) else repr(value)
    text = escape(text)
    return text if len(text) <= 60 else text[:57] + "..."


def number(text: str) -> int | None:
    """A whole number: decimal, 0x, 0o or 0b, with a sign and underscores; None for anything else.

    A leading zero is refused: to C ``010`` is 8, to most people 10.
    """
    text = text.strip()
    if not _NUMBER.fullmatch(text):
        return None
    try:
        return int(text, 0)
    except ValueError:  # 010, 1__0, or more digits than Python converts
        return None


def mac(text: str) -> bytes | None:
    """The 6 bytes of ``02:00:00:00:00:01`` (also with - or as ``0200.0000.0001``), or None."""
    return bytes.fromhex(re.sub(r"[:.-]", "", text)) if _MAC.fullmatch(text) else None


def ipv4(text: str) -> bytes | None:
    """The 4 bytes of ``10.0.0.1``, or None."""
    from socket import AF_INET

    return _address(AF_INET, text)


def ipv6(text: str) -> bytes | None:
    """The 16 bytes of ``2001:db8::1``, or None."""
    from socket import AF_INET6

    return _address(AF_INET6, text)


def _address(family: int, text: str) -> bytes | None:
    from socket import inet_pton

    try:
        return inet_pton(family, text)
    except (OSError, ValueError):  # no address; NUL or surrogates in it
        return None


def prefix(text: str, size: int) -> bytes | None:
    """An LPM key: prefix length as u32, then the address of ``size`` (4, 6, 16) bytes; or None.

    An address alone is its own prefix. Raises UsageError for a length that is too long.
    """
    address, slash, length = text.strip().partition("/")
    found = {4: ipv4, 6: mac, 16: ipv6}[size](address)
    bits = number(length) if slash else size * 8
    if found is None or bits is None:
        return None
    if not 0 <= bits <= size * 8:
        raise UsageError(f"{shown(text)}: prefix length {bits} is out of range 0..{size * 8}")
    return bits.to_bytes(4, "little") + found


def parse_literal(text: str) -> Literal:
    """Text with lists, structs and quoted strings taken apart; bare words and numbers stay text.

    Raises UsageError where brackets or quotes do not match.
    """
    parser = _Parser(text)
    found = parser.value(0, top=True)
    parser.end()
    return found


class _Parser:
    def __init__(self, text: str) -> None:
        self.text = text
        self.position = 0

    def fail(self, what: str) -> UsageError:
        return UsageError(f"{shown(self.text)}: {what} (character {self.position + 1})")

    def peek(self) -> str:
        while self.position < len(self.text) and self.text[self.position].isspace():
            self.position += 1
        return self.text[self.position : self.position + 1]

    def take(self, expected: str) -> bool:
        if self.peek() not in expected or not self.peek():
            return False
        self.position += 1
        return True

    def end(self) -> None:
        if self.peek():
            raise self.fail("nothing may follow here")

    def value(self, depth: int, *, top: bool = False) -> Literal:
        if depth > _MAX_NESTING:
            raise self.fail("nested too deeply")
        match self.peek():
            case "[":
                return self.sequence(depth)
            case "{":
                return self.mapping(depth)
            case '"' | "'":
                return self.quoted()
            case _:
                return self.bare("" if top else ",]}")

    def sequence(self, depth: int) -> Literal:
        self.position += 1
        found: list[Literal] = []
        while not self.take("]"):
            if found and not self.take(","):
                raise self.fail("expected , or ]")
            if found and self.take("]"):
                break
            found.append(self.value(depth + 1))
        return found

    def mapping(self, depth: int) -> Literal:
        self.position += 1
        found: dict[str, Literal] = {}
        while not self.take("}"):
            if found and not self.take(","):
                raise self.fail("expected , or }")
            if found and self.take("}"):
                break
            name = self.quoted() if self.peek() in ("'", '"') else self.bare(":=,]}")
            if not self.take(":="):
                raise self.fail(f"expected : after {shown(str(name))}")
            if name in found:
                raise self.fail(f"{shown(str(name))} stands twice")
            found[str(name)] = self.value(depth + 1)
        return found

    def quoted(self) -> Quoted:
        if self.text[self.position] == "'":
            end = self.text.find("'", self.position + 1)
            if end < 0:
                raise self.fail("the quote is not closed")
            found = self.text[self.position + 1 : end]
            self.position = end + 1
            return Quoted(found)
        match = _STRING.match(self.text, self.position)
        if not match:
            raise self.fail("the quote is not closed")
        try:
            found = json.loads(match.group(), strict=False)
        except ValueError:
            raise self.fail("a backslash in quotes is written \\\\") from None
        self.position = match.end()
        return Quoted(found)

    def bare(self, stop: str) -> str:
        self.peek()
        start = self.position
        while self.position < len(self.text) and self.text[self.position] not in stop:
            self.position += 1
        found = self.text[start : self.position].strip()
        if not found and stop:
            raise self.fail("a value is missing")
        return found
