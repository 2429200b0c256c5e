"""Captures are read whoever wrote them, and however damaged they are."""

import gzip
import random
import struct
import tracemalloc
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.layers.inet import IP, UDP
from scapy.layers.l2 import Ether
from scapy.utils import wrpcap, wrpcapng

from netbpf.errors import CaptureError
from netbpf.packets.capture.model import MAX_RECORD, WINDOW
from netbpf.packets.capture.open import Capture
from netbpf.packets.capture.source import Source
from tests.packets.captures import Read, block, interface, packet, pcap, pcapng, read, section

Write = Callable[..., Path]

FRAMES = [bytes([number]) * (14 + 7 * number) for number in range(5)]
STAMPS = [1_000_000_000_000 + number * 1_000_000_000 for number in range(5)]


@pytest.fixture
def written(tmp_path: Path) -> Write:
    def write(data: bytes, name: str = "in.pcap") -> Path:
        path = tmp_path / name
        path.write_bytes(data)
        return path

    return write


# --- kinds ---


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("nano", [False, True])
def test_pcap_in_both_byte_orders_and_both_units(written: Write, order: str, nano: bool) -> None:
    found, warnings = read(written(pcap(FRAMES, order=order, nano=nano)))
    unit = 1 if nano else 1000
    assert found == [
        Read(number + 1, STAMPS[number] + number * unit, len(data), data)
        for number, data in enumerate(FRAMES)
    ]
    assert warnings == []


@pytest.mark.parametrize("order", ["<", ">"])
def test_pcapng_in_both_byte_orders(written: Write, order: str) -> None:
    found, warnings = read(written(pcapng(FRAMES, order)))
    assert [one.data for one in found] == FRAMES
    assert [one.time_ns for one in found] == [1000 * number for number in range(5)]
    assert warnings == []


def test_pcapng_with_sections_of_both_orders_interfaces_and_all_kinds_of_packets(
    written: Write,
) -> None:
    one, two, three, four = FRAMES[:4]
    old = struct.pack(">HHIIII", 1, 0, 0, 3, len(three), len(three)) + three
    data = (
        section() + interface(snaplen=20) + interface(options=[(9, b"\x09"), (14, struct.pack("<q", 7))])
        + block(5, bytes(64))  # interface statistics, which say nothing of packets
        + packet(one, (1 << 32) + 5, where=1)
        + block(3, struct.pack("<I", 40) + FRAMES[4][:20])  # a simple packet, cut by the snapshot length
        + section(">") + interface(">") + interface(">", options=[(9, b"\x8a")])
        + packet(two, 3 << 10, order=">", where=1) + block(2, old, ">")
        + block(0x80000001, bytes(3 * WINDOW), ">")  # somebody's own, larger than what is in memory
        + packet(four, order=">")
    )  # fmt: skip
    found, warnings = read(written(data))
    assert warnings == []
    assert found == [
        Read(1, 7_000_000_000 + (1 << 32) + 5, len(one), one),
        Read(2, None, 40, FRAMES[4][:20]),
        Read(3, 3_000_000_000, len(two), two),
        Read(4, 3 * 1_000_000_000 // 1024, len(three), three),
        Read(5, 0, len(four), four),
    ]


def test_what_scapy_writes(tmp_path: Path) -> None:
    frames = [Ether() / IP(dst="10.0.0.1") / UDP(dport=port) / bytes(port) for port in range(40)]
    wrpcap(str(tmp_path / "s.pcap"), frames, nano=True)
    wrpcapng(str(tmp_path / "s.pcapng"), frames)
    wrpcap(str(tmp_path / "s.pcap.gz"), frames, gz=True)
    for name in ("s.pcap", "s.pcapng", "s.pcap.gz"):
        assert [one.data for one in read(tmp_path / name)[0]] == [bytes(one) for one in frames]


@pytest.mark.parametrize("make", [pcap, pcapng])
def test_a_capture_larger_than_what_is_in_memory(
    written: Write, make: Callable[[list[bytes]], bytes]
) -> None:
    chance = random.Random(7)
    frames = [chance.randbytes(chance.choice([0, 14, 60, 1514, 65535])) for _ in range(300)]
    assert sum(map(len, frames)) > 3 * WINDOW
    found, warnings = read(written(make(frames)))
    assert [one.data for one in found] == frames
    assert [one.number for one in found] == list(range(1, 301))
    assert warnings == []


def test_memory_does_not_grow_with_the_capture(tmp_path: Path) -> None:
    path = tmp_path / "large.pcap"
    record = pcap([bytes(1000)])[24:]
    with path.open("wb") as file:
        file.write(pcap([]))
        for _ in range(40):
            file.write(record * 1000)
    tracemalloc.start()
    try:
        from netbpf.packets.capture import open_capture

        with open_capture(path) as capture:
            assert sum(len(one.starts) for one in capture.blocks()) == 40_000
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 3 * WINDOW < path.stat().st_size / 20


# --- gzip and pipes ---


def test_gzip_is_known_by_its_content(written: Write) -> None:
    path = written(
        gzip.compress(pcap(FRAMES[:2])) + gzip.compress(pcap(FRAMES[2:])[24:]), "odd.name"
    )
    assert [one.data for one in read(path)[0]] == FRAMES


def test_gzip_that_ends_early(written: Write) -> None:
    chance = random.Random(3)
    frames = [chance.randbytes(100) for _ in range(50)]
    whole = gzip.compress(pcap(frames))
    found, warnings = read(written(whole[: len(whole) // 2], "t.gz"))
    assert [one.data for one in found] == frames[: len(found)]
    assert 10 < len(found) < 40
    assert len(warnings) == 1
    assert "the compressed data ends early" in warnings[0]


def test_gzip_that_is_damaged(written: Write) -> None:
    whole = bytearray(gzip.compress(pcap(FRAMES)))
    whole[-8] ^= 1  # its checksum
    found, warnings = read(written(bytes(whole), "d.gz"))
    assert [one.data for one in found] == FRAMES
    assert len(warnings) == 1
    assert "the compressed data is damaged" in warnings[0]


def test_standard_input_in_small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    import os
    import threading

    end, other = os.pipe()

    def feed() -> None:
        with open(other, "wb", buffering=0) as file:
            data = pcap(FRAMES)
            file.writelines(data[at : at + 3] for at in range(0, len(data), 3))

    thread = threading.Thread(target=feed)
    thread.start()
    with open(end, "rb") as file:
        monkeypatch.setattr("sys.stdin", file)
        found, warnings = read("-")
    thread.join()
    assert [one.data for one in found] == FRAMES
    assert warnings == []


@pytest.mark.parametrize(
    "data", [pcap(FRAMES), pcapng(FRAMES), pcapng(FRAMES) * 2], ids=["pcap", "pcapng", "sections"]
)
def test_what_has_come_does_not_wait_for_more(
    written: Write, monkeypatch: pytest.MonkeyPatch, data: bytes
) -> None:
    """Through a pipe there may be nothing more for an hour."""
    with Capture(written(data)) as capture:

        def wait(*_: object) -> tuple[int, str]:
            raise BlockingIOError

        monkeypatch.setattr(Source, "read_into", wait)
        found = 0
        with suppress(BlockingIOError):
            for one in capture.blocks():
                found += len(one.starts)
    assert found == len(FRAMES) * data.count(FRAMES[4])


# --- damage ---


@pytest.mark.parametrize("data", [pcap(FRAMES[:3]), pcapng(FRAMES[:3])], ids=["pcap", "pcapng"])
def test_cut_anywhere_a_capture_is_read_as_far_as_it_goes(written: Write, data: bytes) -> None:
    whole = len(read(written(data))[0])
    seen, heads = [], []
    for length in range(len(data)):
        path = written(data[:length])
        try:
            found, warnings = read(path)
        except CaptureError:
            heads.append(length)
            continue
        assert [one.data for one in found] == FRAMES[: len(found)]
        seen.append(len(found))
        if found and not warnings:
            # Cut between two packets: nothing is missing of what is there.
            assert read(written(data[: length - 1]))[1] or length == len(data)
        for one in warnings:
            assert one.startswith("in.pcap: ")
            assert "is not whole" in one
            assert one.endswith("read as far as it goes")
    assert heads == list(range(24 if data[0] == 0xD4 else 12))
    assert seen == sorted(seen)
    assert set(seen) == set(range(whole))


def test_a_warning_says_where(written: Write) -> None:
    _, warnings = read(written(pcap(FRAMES)[:-5]))
    place = len(pcap(FRAMES[:4]))
    why = f"the file ends {16 + 42 - 5} bytes into it"
    what = f"packet 5 at byte {place} is not whole ({why}); read as far as it goes"
    assert warnings == [f"in.pcap: {what}"]


def test_lengths_that_cannot_be(written: Write) -> None:
    head = struct.pack("<IIII", 0, 0, MAX_RECORD + 1, MAX_RECORD + 1)
    found, warnings = read(written(pcap(FRAMES[:2]) + head + bytes(100)))
    assert len(found) == 2
    assert "packet 3 at byte 91 claims 262145 bytes: the file is damaged there" in warnings[0]
    for broken in (
        struct.pack("<II", 6, 0xFFFFFFFC), struct.pack("<II", 6, 8), struct.pack("<II", 6, 33),
        block(6, struct.pack("<IIIII", 0, 0, 0, 500, 500)), packet(b"x" * 20, where=7),
        packet(b"x" * 20)[:-4] + bytes(4), struct.pack("<III", 0x0A0D0D0A, 28, 5),
    ):  # fmt: skip
        found, warnings = read(written(pcapng(FRAMES[:2]) + broken.ljust(40, b"\0")))
        assert len(found) == 2
        assert len(warnings) == 1, broken
        assert "after packet 2" in warnings[0]
        assert str(len(pcapng(FRAMES[:2]))) in warnings[0]


@given(st.binary(max_size=300), st.booleans(), st.integers(0, 400), st.binary(max_size=8))
def test_hostile_bytes_never_do_more_than_an_error(
    tmp_path_factory: pytest.TempPathFactory, data: bytes, ng: bool, at: int, patch: bytes
) -> None:
    path = tmp_path_factory.getbasetemp() / "hostile.pcap"
    base = bytearray((pcapng if ng else pcap)(FRAMES))
    base[at : at + len(patch)] = patch
    for content in (data, bytes(base) + data):
        path.write_bytes(content)
        try:
            found, warnings = read(path)
        except CaptureError:
            continue
        assert len(warnings) <= 1
        assert all(len(one.data) <= MAX_RECORD for one in found)


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "it is empty"),
        (b"\xd4\xc3", "it has only 2 bytes"),
        (pcap([])[:20], "ends within its file header, 20 bytes long"),
        (b"\x7fELF" + bytes(60), "begins with 7f 45 4c 46"),
        (b"\x0a\x0d\x0d\x0a" + bytes(60), "begins as pcapng does"),
        (b"\x28\xb5\x2f\xfd" + bytes(60), "compressed with zstd"),
        (b"\x1f\x8b" + b"nonsense", "damaged gzip"),
        (b"\x34\xcd\xb2\xa1" + bytes(60), "old patch of libpcap"),
        (pcap(FRAMES, link=113), "link type LINUX_SLL (113)"),
        (pcap(FRAMES, link=101), "link type RAW (101)"),
        (pcap(FRAMES, link=6000), "link type 6000"),
        (section() + interface(link=276) + packet(FRAMES[0]), "link type LINUX_SLL2 (276)"),
    ],
)  # fmt: skip
def test_what_is_no_capture_of_ethernet(written: Write, data: bytes, says: str) -> None:
    with pytest.raises(CaptureError) as caught:
        read(written(data))
    assert says in caught.value.message
    assert "in.pcap" in caught.value.message


def test_packets_of_other_interfaces_are_counted(written: Write) -> None:
    from netbpf.packets.capture import open_capture

    data = section() + interface() + interface(link=113)
    data += packet(FRAMES[0]) + packet(FRAMES[1], where=1) + packet(FRAMES[2])
    with open_capture(written(data)) as capture:
        numbers = [number for one in capture.blocks() for number in one.numbers]
    assert numbers == [1, 3]
    assert capture.skipped == {"LINUX_SLL (113)": 1}


def test_missing_files_and_directories(tmp_path: Path) -> None:
    for path, says in ((tmp_path / "none", "No such file"), (tmp_path, "is a directory")):
        with pytest.raises(CaptureError, match=says):
            read(path)


def test_no_packets_at_all(written: Write) -> None:
    assert read(written(pcap([]))) == ([], [])
    assert read(written(pcapng([]))) == ([], [])
