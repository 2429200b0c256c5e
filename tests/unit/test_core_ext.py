"""Reading .BTF.ext: tables that compilers write, and bytes that nobody should."""

import struct

import pytest

from netbpf.bpf.btf.build import Builder
from netbpf.bpf.btf.ext import BtfExt, CoreRelo, LineInfo, Source, parse_ext
from netbpf.bpf.btf.types import Btf
from netbpf.errors import ObjectError


class Strings:
    """BTF with a function (type 2), and the offsets of strings in it."""

    def __init__(self) -> None:
        builder = Builder()
        builder.func("main", builder.func_proto(0))
        self.offset = {text: builder.string(text) for text in ("xdp", "tc", "a.c", "x = 1;", "0:1")}
        self.btf: Btf = builder.build()


KNOWN = Strings()
XDP, TC, FILE, TEXT, ACCESS = (KNOWN.offset[text] for text in ("xdp", "tc", "a.c", "x = 1;", "0:1"))
FUNC = 2


def table(size: int, *sections: tuple[int, list[tuple[int, ...]]], extra: bytes = b"") -> bytes:
    """A table: record size, then name, count and records of each section."""
    out = struct.pack("<I", size)
    for name, records in sections:
        out += struct.pack("<II", name, len(records))
        out += b"".join(struct.pack(f"<{len(one)}I", *one) + extra for one in records)
    return out


def ext(*tables: bytes, header: int = 32) -> bytes:
    words, body = [], b""
    for one in tables:
        words += [len(body), len(one)]
        body += one
    words += [0] * (6 - len(words))
    return struct.pack("<HBBI6I", 0xEB9F, 1, 0, header, *words)[:header] + body


FUNCS = table(8, (XDP, [(0, FUNC), (16, FUNC)]))
LINES = table(16, (XDP, [(0, FILE, TEXT, 7 << 10 | 3), (16, FILE, TEXT, 9 << 10)]))
CORE = table(16, (XDP, [(8, 1, ACCESS, 0)]), (TC, [(0, 1, ACCESS, 99)]))


def test_all_three_tables() -> None:
    found = parse_ext(ext(FUNCS, LINES, CORE), KNOWN.btf)
    assert found.funcs == {"xdp": [(0, FUNC), (16, FUNC)]}
    assert found.lines == {
        "xdp": [LineInfo(0, FILE, TEXT, 7 << 10 | 3), LineInfo(16, FILE, TEXT, 9 << 10)]
    }
    assert found.relocations == {
        "xdp": [CoreRelo(8, 1, "0:1", 0)],
        "tc": [CoreRelo(0, 1, "0:1", 99)],
    }


def test_source_positions() -> None:
    found = parse_ext(ext(FUNCS, LINES), KNOWN.btf)
    first = Source("a.c", "x = 1;", 7, 3)
    assert found.source(found.lines["xdp"][0]) == first
    assert found.source_at("xdp", 8) == first
    assert found.source_at("xdp", 16) == Source("a.c", "x = 1;", 9, 0)
    assert found.source_at("tc", 0) is None


def test_a_header_from_before_core_relocations() -> None:
    data = struct.pack("<HBBI4I", 0xEB9F, 1, 0, 24, 0, len(FUNCS), len(FUNCS), len(LINES))
    found = parse_ext(data + FUNCS + LINES, KNOWN.btf)
    assert list(found.funcs) == list(found.lines) == ["xdp"]
    assert not found.relocations


def test_records_longer_than_known_ones() -> None:
    longer = table(24, (XDP, [(8, 1, ACCESS, 0)]), (TC, [(0, 1, ACCESS, 5)]), extra=b"\xff" * 8)
    found = parse_ext(ext(b"", b"", longer), KNOWN.btf)
    assert found.relocations == {
        "xdp": [CoreRelo(8, 1, "0:1", 0)],
        "tc": [CoreRelo(0, 1, "0:1", 5)],
    }


def test_one_section_in_two_parts() -> None:
    parts = table(8, (XDP, [(0, FUNC)]), (XDP, [(8, FUNC)]))
    assert parse_ext(ext(parts), KNOWN.btf).funcs == {"xdp": [(0, FUNC), (8, FUNC)]}


def test_nothing_at_all() -> None:
    assert parse_ext(ext(), KNOWN.btf) == BtfExt(KNOWN.btf)


GOOD = ext(FUNCS, LINES, CORE)
BAD = {
    "empty": (b"", "too short"),
    "half a header": (GOOD[:20], "too short"),
    "big-endian": (struct.pack(">H", 0xEB9F) + GOOD[2:], "big-endian"),
    "magic": (b"\0\0" + GOOD[2:], "magic"),
    "version": (GOOD[:2] + b"\2" + GOOD[3:], "version 2"),
    "header too short": (GOOD[:4] + struct.pack("<I", 23) + GOOD[8:], "header of 23"),
    "header too long": (GOOD[:4] + struct.pack("<I", 1 << 31) + GOOD[8:], "header of"),
    "cut off": (GOOD[:-1], "truncated"),
    "table outside": (GOOD[:8] + struct.pack("<I", 1 << 31) + GOOD[12:], "truncated"),
    "unaligned": (GOOD[:8] + struct.pack("<I", 2) + GOOD[12:], "aligned"),
    "small records": (ext(table(4, (XDP, [(0,)]))), "func_info records of 4 bytes"),
    "odd records": (ext(b"", table(18, (XDP, [(0, FILE, TEXT, 1)]), extra=b"xx")), "of 18 bytes"),
    "huge records": (ext(table(1 << 31, (XDP, [(0, FUNC)]))), "records of 2147483648"),
    "no records": (ext(table(8, (XDP, []), (TC, [(0, FUNC)]))), "claims 0 records for xdp"),
    "too many records": (ext(FUNCS[:8] + struct.pack("<I", 1 << 30) + FUNCS[12:]), "claims 1073741824"),
    "a table of three bytes": (ext(FUNCS[:3]), "records of"),
    "half a section": (ext(FUNCS + b"\1\0\0\0"), "truncated inside func_info"),
    "section name": (ext(table(8, (9999, [(0, FUNC)]))), "string at offset 9999"),
    "access string": (ext(b"", b"", table(16, (XDP, [(0, 1, 9999, 0)]))), "string at offset 9999"),
    "no function": (ext(table(8, (XDP, [(0, 1)]))), "type 1, which is no function"),
    "no type": (ext(table(8, (XDP, [(0, 77)]))), "no type 77"),
    "inside an instruction": (ext(table(8, (XDP, [(4, FUNC)]))), "middle of an instruction"),
}  # fmt: skip


@pytest.mark.parametrize(("data", "why"), BAD.values(), ids=BAD)
def test_what_does_not_fit_is_an_object_error(data: bytes, why: str) -> None:
    with pytest.raises(ObjectError, match=why):
        parse_ext(data, KNOWN.btf)


def test_a_line_whose_strings_are_missing() -> None:
    found = parse_ext(ext(b"", table(16, (XDP, [(0, 9999, TEXT, 0)]))), KNOWN.btf)
    with pytest.raises(ObjectError, match="string at offset 9999"):
        found.source_at("xdp", 0)
