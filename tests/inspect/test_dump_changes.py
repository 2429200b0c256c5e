"""Dumps of maps that others change meanwhile, and dumps that end early: nothing comes twice, no thread stays."""

import errno
import io
import json
import os
import signal
import struct
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from netbpf._sys import bpf as sys_bpf
from netbpf.bpf.map import Map
from netbpf.constants import MapType
from netbpf.errors import KernelError
from netbpf.insight import dump
from netbpf.insight.entries import Entries

NO_PREALLOC = 1  # BPF_F_NO_PREALLOC, which LPM tries ask for
Change = Callable[[bytes], None]


def number(value: int) -> bytes:
    return struct.pack("<I", value)


def prefix(value: int) -> bytes:
    return number(32) + struct.pack(">I", value * 2654435761 & 0xFFFFFFFF)


def entries_of(entries: Entries, limit: int | None = None) -> list[dict[str, Any]]:
    out = io.StringIO()
    total = entries.write_json(out, limit)
    found: list[dict[str, Any]] = json.loads(f"[{out.getvalue()}]")
    assert len(found) == total
    return found


def made(kind: MapType, keys: list[bytes], value: bytes, flags: int = 0) -> Map:
    one = Map(sys_bpf.map_create(kind, len(keys[0]), len(value), 2 * len(keys), flags=flags))
    for key in keys:
        one.update(key, value)
    return one


# --- changed meanwhile ---


@pytest.mark.parametrize(
    ("kind", "key", "count", "flags"),
    [(MapType.LPM_TRIE, prefix, 9000, NO_PREALLOC), (MapType.DEVMAP_HASH, number, 40, 0)],
    ids=["batches", "one by one"],
)
def test_nothing_comes_twice_when_the_entry_of_the_walk_is_deleted(
    monkeypatch: pytest.MonkeyPatch, kind: MapType, key: Callable[[int], bytes], count: int, flags: int
) -> None:  # fmt: skip
    """The kernel then begins anew."""
    keys = [key(index) for index in range(count)]
    opened = made(kind, keys, number(1), flags)
    deleted: list[bytes] = []

    def deleting(call: Callable[..., Any]) -> Callable[..., Any]:
        steps = iter(range(1_000_000))

        def called(fd: int, where: bytes | None, *more: int) -> Any:
            if where is not None and next(steps) in (0, 1, 17):
                deleted.append(where[: len(keys[0])])
                opened.delete(deleted[-1])
            return call(fd, where, *more)

        return called

    for name in ("map_lookup_batch", "map_next_key"):
        monkeypatch.setattr(sys_bpf, name, deleting(getattr(sys_bpf, name)))
    with Entries(opened) as entries:
        found = [one["key"] for one in entries_of(entries)]
        assert len(deleted) > 1
        assert len(found) == len(set(found)) == count
        assert {entries.decoders.key(one) for one in keys} == {*found}


@pytest.mark.parametrize("limit", [None, 3000])
def test_a_large_map_under_change(monkeypatch: pytest.MonkeyPatch, limit: int | None) -> None:
    """Every second entry goes and comes again while threads read and write: what stays is there, once."""
    monkeypatch.setattr(dump, "_MANY", 1000)
    count = 6000
    opened = made(MapType.HASH, [number(index) for index in range(count)], bytes(8))
    over = threading.Event()

    def change() -> None:
        while not over.is_set():
            for index in range(1, count, 2):
                opened.delete(number(index))
                opened.update(number(index), bytes(8))

    changing = threading.Thread(target=change)
    changing.start()
    try:
        found = [int(one["key"], 16) for one in entries_of(Entries(opened), limit)]
    finally:
        over.set()
        changing.join()
        opened.close()
    assert len(found) == len(set(found)) <= count
    if limit:
        assert len(found) == limit
    else:
        assert {*range(0, count, 2)} <= {*found}


@pytest.mark.parametrize("at", [0, 1])
def test_holes_in_an_array_of_maps_on_kernels_that_stop_there(
    monkeypatch: pytest.MonkeyPatch, at: int
) -> None:
    """EINTR, in the first batch or behind it."""
    held = [1, 5, 4097, 4100, 9000]
    with sys_bpf.map_create(MapType.ARRAY, 4, 4, 1) as inner:
        fd = sys_bpf.map_create(MapType.ARRAY_OF_MAPS, 4, 4, 9001, inner_map_fd=inner.fileno())
        for index in held:
            sys_bpf.map_update(fd.fileno(), number(index), number(inner.fileno()))
    lookup, calls = sys_bpf.map_lookup_batch, iter(range(100))

    def stopping(map_fd: int, cursor: bytes | None, _: int, *sizes: int) -> sys_bpf.Batch:
        if next(calls) == at:
            raise KernelError("BPF_MAP_LOOKUP_BATCH", errno.EINTR)
        return lookup(map_fd, cursor, 2, *sizes)

    monkeypatch.setattr(sys_bpf, "map_lookup_batch", stopping)
    with Entries(Map(fd)) as entries:
        assert [one["key"] for one in entries_of(entries)] == held


# --- not to the end ---


class Full(io.StringIO):
    """Takes nothing after the first text."""

    def write(self, text: str) -> int:
        if self.tell():
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return super().write(text)


def test_what_cannot_be_written_or_read_ends_all_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dump, "_MANY", 1)
    before = threading.active_count()
    keys = [number(index) for index in range(20_000)]
    opened = Map(sys_bpf.map_create(MapType.HASH, 4, 8, len(keys)))
    sys_bpf.map_update_batch(opened.fd.fileno(), len(keys), b"".join(keys), bytes(8 * len(keys)))
    with Entries(opened) as entries:
        with pytest.raises(OSError, match="No space"):
            entries.write_json(Full())
        assert threading.active_count() == before

        lookup, calls = sys_bpf.map_lookup_batch, iter(range(100))

        def gone(*arguments: Any) -> sys_bpf.Batch:
            if next(calls) == 2:
                raise KernelError("BPF_MAP_LOOKUP_BATCH", errno.EBADF)
            return lookup(*arguments)

        monkeypatch.setattr(sys_bpf, "map_lookup_batch", gone)
        out = io.StringIO()
        with pytest.raises(KernelError):
            entries.write_json(out)
        assert out.getvalue().count("key") > 256  # what was read is there
        assert threading.active_count() == before


@pytest.fixture(scope="module")
def large() -> Iterator[int]:
    """The id of a map of 200,000 entries, more than a pipe takes."""
    count = 200_000
    with Map(sys_bpf.map_create(MapType.HASH, 4, 8, count)) as one:
        keys = struct.pack(f"<{count}I", *range(count))
        sys_bpf.map_update_batch(one.fd.fileno(), count, keys, bytes(8 * count))
        yield one.info.id


def started(large: int, *more: str, out: Any = subprocess.PIPE) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "netbpf", "map", "dump", "id", str(large), *more]
    return subprocess.Popen(command, stdout=out, stderr=subprocess.PIPE)


@pytest.mark.parametrize("as_json", [(), ("--json",)], ids=["lines", "json"])
def test_ctrl_c_ends_a_dump_whose_reader_waits(large: int, as_json: tuple[str, ...]) -> None:
    with started(large, *as_json) as running:
        assert running.stdout
        assert running.stderr
        assert running.stdout.read(10)  # it is at work, and the pipe is soon full
        running.send_signal(signal.SIGINT)
        assert running.wait(60) == 128 + signal.SIGINT
        assert running.stderr.read() == b"netbpf: interrupted\n"


def test_a_reader_that_goes_away(large: int) -> None:
    with started(large, "--json") as running:
        assert running.stdout
        assert running.stderr
        running.stdout.read(10)
        running.stdout.close()
        assert running.wait(60) == 128 + signal.SIGPIPE
        assert running.stderr.read() == b""


def test_no_room(large: int) -> None:
    with open("/dev/full", "wb") as full, started(large, "--json", out=full) as running:
        _, err = running.communicate(timeout=60)
        assert running.returncode == 1
        [line] = err.decode().splitlines()
        assert line.endswith("No space left on device")
