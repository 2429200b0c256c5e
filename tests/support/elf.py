"""Writing ELF objects byte by byte, so that a test can make them wrong."""

import struct
from typing import NamedTuple

PROGBITS, SYMTAB, STRTAB, NOBITS, REL = 1, 2, 3, 8, 9
CODE, DATA = 6, 3  # flags: ALLOC | EXECINSTR, ALLOC | WRITE
FUNC, OBJECT = 0x12, 0x11  # st_info: global function, global object
LOCAL_FUNC = 0x02
MOV = struct.pack("<BBhi", 0xB7, 0, 0, 2)  # r0 = 2
EXIT = struct.pack("<BBhi", 0x95, 0, 0, 0)
BTF_NULL = b"\0"


class Part(NamedTuple):
    """A section; ``claims`` is the size in its header where that is not the truth."""

    name: str
    content: bytes = b""
    type: int = PROGBITS
    flags: int = 0
    link: int = 0
    info: int = 0
    entry_size: int = 0
    claims: int | None = None


def insn(code: int, dst: int = 0, src: int = 0, off: int = 0, imm: int = 0) -> bytes:
    return struct.pack("<BBhi", code, src << 4 | dst, off, imm)


def symbol(name: int, info: int, section: int, value: int = 0, size: int = 0) -> bytes:
    return struct.pack("<IBBHQQ", name, info, 0, section, value, size)


def relocation(offset: int, number: int, kind: int = 1) -> bytes:
    return struct.pack("<QQ", offset, number << 32 | kind)


def elf(*parts: Part) -> bytes:
    """An object of these sections, in this order behind section 0; section names are added behind them."""
    names, body, headers = b"\0", bytearray(64), [bytes(64)]
    for part in parts:
        content = part.content if part.type != NOBITS else b""
        size = len(content) if part.claims is None else part.claims
        headers.append(
            struct.pack(
                "<IIQQQQIIQQ", len(names), part.type, part.flags, 0, len(body), size,
                part.link, part.info, 8, part.entry_size,
            )
        )  # fmt: skip
        names += part.name.encode() + b"\0"
        body += content + bytes(-len(content) % 8)
    names_at = len(names)
    names += b".shstrtab\0"
    headers.append(
        struct.pack("<IIQQQQIIQQ", names_at, STRTAB, 0, 0, len(body), len(names), 0, 0, 1, 0)
    )
    body += names + bytes(-len(names) % 8)
    magic = b"\x7fELF\x02\x01\x01" + bytes(9)
    count = len(headers)
    body[:64] = struct.pack(
        "<16sHHIQQQIHHHHHH", magic, 1, 247, 1, 0, 0, len(body), 0, 64, 0, 0, 64, count, count - 1
    )
    return bytes(body) + b"".join(headers)


def program(
    code: bytes = MOV + EXIT,
    *more: Part,
    section: str = "xdp",
    symbols: bytes = b"",
    names: bytes = b"",
) -> bytes:
    """An object with the function ``main`` over all of section 1; ``symbols`` go on from number 2, ``names`` from 6."""
    table = symbol(0, 0, 0) + symbol(1, FUNC, 1, 0, len(code)) + symbols
    return elf(
        Part(section, code, PROGBITS, CODE),
        Part(".strtab", b"\0main\0" + names, STRTAB),
        Part(".symtab", table, SYMTAB, link=2, entry_size=24),
        *more,
    )


def btf(types: bytes, strings: bytes = BTF_NULL) -> bytes:
    head = struct.pack("<HBBIIIII", 0xEB9F, 1, 0, 24, 0, len(types), len(types), len(strings))
    return head + types + strings


def btf_type(name: int, kind: int, vlen: int, size_or_type: int, rest: bytes = b"") -> bytes:
    return struct.pack("<III", name, kind << 24 | vlen, size_or_type) + rest
