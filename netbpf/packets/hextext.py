"""Packets written as hex digits: plain, with separators, or as the dumps of hexdump -C, xxd, tcpdump and Wireshark."""

import re
from typing import Final

from netbpf.errors import PacketTextError
from netbpf.text import escape

# "0000  45 00", "00000010: 4500", "0x0020:  4500": an offset of four digits or more, and something behind it.
_ROW: Final = re.compile(r"[ \t]*(?:0x)?([0-9a-fA-F]{4,8})(:[ \t]|[ \t]{2,})[ \t]*", re.ASCII)
_LAST: Final = re.compile(r"[ \t]*(?:0x)?[0-9a-fA-F]{4,8}:?[ \t]*", re.ASCII)
_PAIRS: Final = re.compile(r"(?:[0-9a-fA-F]{2})+", re.ASCII)
_OCTAL_DUMP: Final = re.compile(r"[ \t]*[0-9a-fA-F]{7} [0-9a-fA-F]{4}(?: |$)", re.ASCII)
_TOKEN: Final = re.compile(r"(?:0[xX]|\\x)?([0-9a-fA-F]+)|[\s:,;._\-]+", re.ASCII)
_WIDTH: Final = 16  # bytes per row of a dump, unless its offsets say otherwise


def from_hex(text: str) -> bytes:
    """The bytes that hex digits or a dump stand for.

    Between bytes may be blanks, colons, commas, dashes, dots, and ``0x`` or ``\\x`` before each.
    PacketTextError marks what is no hex digit, or a half byte.
    """
    lines = text.strip("\n").split("\n")
    if _OCTAL_DUMP.match(lines[0]):
        raise PacketTextError(
            "this dump shows 16-bit words in the order of the machine that made it", text, 0, 7,
            hint="make it with hexdump -C, xxd or tcpdump -xx",
        )  # fmt: skip
    filled = [line for line in lines if line.strip()]
    if filled and all(_is_row(line) for line in filled[:1]):
        return _dump(text)
    return _plain(text)


def _is_row(line: str) -> bool:
    row = _ROW.match(line)
    return row is not None and (int(row[1], 16) == 0 or row[2].startswith(":"))


def _plain(text: str) -> bytes:
    found = bytearray()
    at = 0
    while at < len(text):
        token = _TOKEN.match(text, at)
        if token is None:
            raise PacketTextError(f"'{escape(text[at])}' is no hex digit", text, at)
        if digits := token[1]:
            # A digit alone between separators is a byte, as in 2:0:0:0:0:1; a longer odd number is a mistake.
            if len(digits) % 2 and len(digits) > 1:
                raise PacketTextError(
                    f"{len(digits)} hex digits are no whole bytes",
                    text,
                    token.start(1),
                    len(digits),
                )
            found += bytes.fromhex(digits.zfill(2))
        at = token.end()
    return bytes(found)


def _dump(text: str) -> bytes:
    found = bytearray()
    repeating = False
    begin = 0
    rows = text.split("\n")
    starts = [_ROW.match(line) for line in rows]
    for number, line in enumerate(rows):
        row = starts[number]
        if line.strip() == "*":
            repeating = True  # hexdump: the rows until the next offset are like the last one
        elif row is None and _LAST.fullmatch(line) and line.strip():
            size = int(line.strip().rstrip(":"), 16)
            _repeat(found, size, repeating, text, begin)
            if size != len(found):
                raise _misplaced(text, begin, size, len(found))
        elif row is None and line.strip():
            raise PacketTextError("this is no row of a hex dump", text, begin, len(line))
        elif row is not None:
            offset = int(row[1], 16)
            _repeat(found, offset, repeating, text, begin)
            if offset != len(found):
                raise _misplaced(text, begin + row.start(1), offset, len(found))
            repeating = False
            after = next((one for one in starts[number + 1 :] if one), None)
            width = int(after[1], 16) - offset if after else _WIDTH
            found += _row(
                line[row.end() :], min(max(width, 0), _WIDTH * 4), text, begin + row.end()
            )
        begin += len(line) + 1
    return bytes(found)


def _repeat(found: bytearray, offset: int, repeating: bool, text: str, at: int) -> None:
    if not repeating or not found:
        return
    if offset > len(found) + (1 << 17):
        raise PacketTextError("no packet is so long", text, at)
    last = bytes(found[-_WIDTH:])
    while len(found) < offset:
        found += last[: offset - len(found)]


def _row(content: str, width: int, text: str, at: int) -> bytes:
    """The bytes of one row; what follows them is its text as characters."""
    content = re.split(r"[ \t]\|", content, maxsplit=1)[0]
    found = bytearray()
    place = 0
    for token in re.finditer(r"\S+", content):
        gap = token.start() - place
        # Tools leave two blanks in the middle, and more between a row that is not full and its characters.
        if found and gap > 2:
            break
        if not _PAIRS.fullmatch(token[0]) or len(found) + len(token[0]) // 2 > width:
            raise PacketTextError(
                "these are no bytes in hex digits", text, at + token.start(), len(token[0])
            )
        found += bytes.fromhex(token[0])
        place = token.end()
        if len(found) == width:
            break
    return bytes(found)


def _misplaced(text: str, at: int, offset: int, size: int) -> PacketTextError:
    return PacketTextError(
        f"this row is at {offset:#x}, and {size:#x} bytes stand before it", text, at, 4
    )
