"""Packets in hex digits, plain or as the dumps of other tools, and in files of any kind."""

import io
import shutil
import struct
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netbpf.errors import CaptureError, PacketTextError, UsageError
from netbpf.packets.given import from_file
from netbpf.packets.hextext import from_hex

PACKET = bytes(range(12)) + b"\x08\x00E\x00\x00\x1cabcdef||" + bytes(40) + b"tail."
_PCAP = struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, 1)


def pcap(*packets: bytes, wire: int | None = None) -> bytes:
    records = b"".join(
        struct.pack("<IIII", 1, 2, len(one), wire or len(one)) + one for one in packets
    )
    return _PCAP + records


# --- hex digits ---


@pytest.mark.parametrize(
    ("text", "data"),
    [
        ("0001ff", "0001ff"),
        ("00 01 FF", "0001ff"),
        ("00:01:ff", "0001ff"),
        ("00-01-ff", "0001ff"),
        ("0001.02ff", "000102ff"),
        ("0x00, 0x01, 0xff", "0001ff"),
        ("0x0001ff", "0001ff"),
        ("\\x00\\x01\\xff", "0001ff"),
        ("2:0:0:0:0:1", "020000000001"),
        ("00 01\n02 03\n", "00010203"),
        ("", ""),
        ("   \n", ""),
        ("0001 0203 0405", "000102030405"),
    ],
)
def test_digits_with_any_separator(text: str, data: str) -> None:
    assert from_hex(text) == bytes.fromhex(data)


@pytest.mark.parametrize(
    ("text", "message", "place"),
    [
        ("00 0g", "'g' is no hex digit", "g"),
        ("123", "3 hex digits are no whole bytes", "123"),
        ("00 01 \x1b", "'\\x1b' is no hex digit", "\x1b"),
        ("0x", "'x' is no hex digit", "x"),
        ("\u0660", "'\u0660' is no hex digit", "\u0660"),
    ],
)
def test_the_place_that_is_no_hex_digit(text: str, message: str, place: str) -> None:
    with pytest.raises(PacketTextError) as error:
        from_hex(text)
    assert error.value.message == message
    assert text[error.value.at : error.value.at + error.value.length] == place


@given(st.binary(max_size=200))
def test_what_python_writes_is_read(data: bytes) -> None:
    assert from_hex(data.hex()) == from_hex(data.hex(" ")) == from_hex(data.hex(":")) == data


# --- dumps ---


def dumped(*command: str) -> str:
    tool = shutil.which(command[0])
    assert tool, f"{command[0]} is not installed"
    return subprocess.run(
        [tool, *command[1:]], input=PACKET, capture_output=True, check=True
    ).stdout.decode()


def wireshark(data: bytes, *, text: bool) -> str:
    """As its "copy as hex dump" writes it."""
    rows = []
    for at in range(0, len(data), 16):
        row = data[at : at + 16]
        shown = "".join(chr(c) if 32 < c < 127 else "." for c in row)
        rows.append(f"{at:04x}  {row.hex(' '):<47}" + (f"   {shown}" if text else ""))
    return "\n".join(rows)


def tcpdump(data: bytes, *, text: bool) -> str:
    """As ``tcpdump -xx`` and ``-XX`` write it."""
    rows = []
    for at in range(0, len(data), 16):
        row = data[at : at + 16]
        words = " ".join(row[i : i + 2].hex() for i in range(0, len(row), 2))
        shown = "".join(chr(c) if 32 < c < 127 else "." for c in row)
        rows.append(
            f"\t0x{at:04x}:  {words}" + (f"{' ' * (39 - len(words))}  {shown}" if text else "")
        )
    return "\n".join(rows)


def hexdump(data: bytes) -> str:
    """As ``hexdump -C`` writes it, with ``*`` for rows that repeat."""
    rows, last, starred = [], b"", False
    for at in range(0, len(data), 16):
        row = data[at : at + 16]
        if row == last and len(row) == 16:
            if not starred:
                rows.append("*")
            starred = True
            continue
        last, starred = row, False
        cells = " ".join(f"{c:02x}" for c in row[:8]) + "  " + " ".join(f"{c:02x}" for c in row[8:])
        rows.append(
            f"{at:08x}  {cells:<48}  |{''.join(chr(c) if 31 < c < 127 else '.' for c in row)}|"
        )
    return "\n".join([*rows, f"{len(data):08x}"])


@pytest.mark.parametrize("size", [1, 7, 8, 9, 15, 16, 17, 24, 32, 67, 300])
@pytest.mark.parametrize(
    "fill", [PACKET, bytes(300), b"abcdef 0123456789|" * 20], ids=["packet", "zeros", "text"]
)
def test_dumps_of_all_tools_are_read(size: int, fill: bytes) -> None:
    data = (fill * 5)[:size]
    assert from_hex(hexdump(data)) == data
    for text in (False, True):
        assert from_hex(tcpdump(data, text=text)) == data
        assert from_hex(wireshark(data, text=text)) == data


def test_dumps_that_the_tools_write_are_read() -> None:
    assert from_hex(dumped("hexdump", "-C")) == PACKET


def test_a_dump_in_the_machines_own_order_is_refused() -> None:
    with pytest.raises(PacketTextError, match="16-bit words in the order of the machine") as error:
        from_hex(dumped("hexdump"))
    assert error.value.hint == "make it with hexdump -C, xxd or tcpdump -xx"


def test_a_dump_with_a_row_missing_is_refused() -> None:
    rows = hexdump(PACKET).split("\n")
    with pytest.raises(
        PacketTextError, match=r"^this row is at 0x20, and 0x10 bytes stand before it$"
    ):
        from_hex("\n".join([rows[0], *rows[2:]]))


@given(st.text(alphabet="0123456789abcdefx: \n*|-.g", max_size=80))
def test_any_text_is_bytes_or_an_error_with_a_place(text: str) -> None:
    try:
        assert isinstance(from_hex(text), bytes)
    except PacketTextError as error:
        place = error.at
    else:
        place = 0
    assert 0 <= place <= len(text)


# --- files ---


def test_a_file_is_taken_for_what_is_in_it(tmp_path: Path) -> None:
    for name, content in {
        "raw.bin": PACKET,
        "digits.txt": PACKET.hex(" ").encode(),
        "dump.txt": hexdump(PACKET).encode(),
        "in.pcap": pcap(PACKET, b"second" * 5),
    }.items():
        Path(tmp_path, name).write_bytes(content)
        assert from_file(tmp_path / name) == (PACKET, ()), name


def test_another_packet_of_a_capture(tmp_path: Path) -> None:
    file = tmp_path / "in.pcap"
    file.write_bytes(pcap(*(bytes([n]) * 20 for n in range(1, 8))))
    assert from_file(file, 5).packet == bytes([5]) * 20
    with pytest.raises(CaptureError, match=r"^in\.pcap holds no packet 8: its last is 7$"):
        from_file(file, 8)


def test_a_packet_captured_in_part_is_said_to_be_so(tmp_path: Path) -> None:
    file = tmp_path / "in.pcap"
    file.write_bytes(pcap(PACKET, wire=1500))
    assert from_file(file).notes == (f"the capture holds {len(PACKET)} of the packet's 1500 bytes",)


@pytest.mark.parametrize(
    "content", [PACKET, PACKET.hex().encode(), pcap(PACKET)], ids=["raw", "hex", "pcap"]
)
def test_standard_input(content: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content)))
    assert from_file("-").packet == PACKET


def test_files_that_hold_no_packet(tmp_path: Path) -> None:
    empty, none = tmp_path / "empty.pcap", tmp_path / "none.txt"
    empty.write_bytes(pcap())
    none.write_text("no packet at all")
    with pytest.raises(CaptureError, match=r"^empty\.pcap holds no packet$"):
        from_file(empty)
    with pytest.raises(PacketTextError) as error:
        from_file(none)
    assert error.value.message == f"{none}: 'n' is no hex digit"
    with pytest.raises(CaptureError, match=r"^cannot read .*missing: No such file or directory$"):
        from_file(tmp_path / "missing")
    with pytest.raises(CaptureError, match=r"Is a directory$"):
        from_file(tmp_path)
    with pytest.raises(UsageError, match="is no capture, so it holds no packet number 2"):
        from_file(none, 2)
