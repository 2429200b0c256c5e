"""A dump by columns against the decoder, entry by entry, over types and bytes by chance. No kernel takes part."""

import io
import json
import random
from collections.abc import Iterator
from typing import NoReturn, cast

import pytest

from netbpf._sys.bpf import Batch
from netbpf.bpf.btf.raw import decode_raw
from netbpf.bpf.btf.types import Btf
from netbpf.bpf.btf.values import format_value
from netbpf.bpf.map import Map
from netbpf.constants import INDEXED_MAPS, PER_CPU_MAPS, MapType
from netbpf.insight import dump
from netbpf.insight.dump import entry_json, plain_value
from netbpf.insight.entries import Entries, MapEntry
from netbpf.insight.styles import untyped
from netbpf.live.reader import OpenMap
from netbpf.model import MapInfo
from tests.inspect.random_types import Types, bytes_of

CPUS = 3


class Pretended:
    """A map without the kernel: its entries, in batches of different lengths."""

    readable = True

    def __init__(self, info: MapInfo, entries: list[tuple[bytes, bytes]], cuts: list[int]) -> None:
        self.info, self._entries, self._cuts = info, entries, cuts
        self.per_cpu = info.type in PER_CPU_MAPS
        self.stride = (info.value_size + 7) & ~7
        self.entry_size = self.stride * CPUS if self.per_cpu else info.value_size

    def entries(self, limit: int | None = None) -> Iterator[tuple[bytes, bytes]]:
        yield from self._entries[:limit]

    def batches(self, limit: int | None = None) -> Iterator[Batch]:
        assert limit is None
        for start, end in zip([0, *self._cuts], [*self._cuts, len(self._entries)], strict=True):
            part = self._entries[start:end]
            keys, values = b"".join(key for key, _ in part), b"".join(value for _, value in part)
            yield Batch(len(part), memoryview(keys), memoryview(values), None)


class OfPretended(Entries):
    """The entries of such a map."""

    def __init__(self, pretended: Pretended, btf: Btf | None) -> None:
        self.map, self.info, self.btf = cast("Map", pretended), pretended.info, btf
        self.decoders = OpenMap(self.map, btf)


@pytest.fixture(autouse=True)
def cpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dump, "possible_cpus", lambda: CPUS)


def value_of(chance: random.Random, one: Pretended) -> bytes:
    """What the CPUs have is the same, or nearly, or not at all."""
    if not one.per_cpu:
        return bytes_of(chance, one.entry_size)
    copies = [bytearray(bytes_of(chance, one.stride))] * CPUS
    match chance.randrange(3):
        case 0:
            copies = [bytearray(bytes_of(chance, one.stride)) for _ in range(CPUS)]
        case 1:
            copies = [bytearray(part) for part in copies]
            copies[-1][chance.randrange(one.stride)] ^= 1 << chance.randrange(8)
    return b"".join(copies)


def made(chance: random.Random, kind: MapType, *, typed: bool = True) -> OfPretended:
    types = Types(chance)
    key = types.key(kind)
    value = types.any(4)
    btf = types.builder.build() if typed else None
    sizes = [max(types.size(one), 1) for one in (key, value)]
    if not typed:
        sizes = [chance.randint(1, 40), chance.choice((1, 2, 4, 8, chance.randint(1, 40)))]
        sizes[0] = 4 if kind in INDEXED_MAPS else sizes[0]
    name = chance.choice(("counts", "gateway", "src_ip6"))
    of = (
        dict(zip(("btf_key_type_id", "btf_value_type_id"), (key, value), strict=True))
        if typed
        else {}
    )
    key_size, value_size = sizes
    info = MapInfo(1, name, kind, key_size, value_size, 64, btf_id=1, **of)
    one = Pretended(info, [], [])
    agreeing = chance.random() < 0.3
    for _ in range(chance.choice((1, 7, 12))):
        data = value_of(chance, one)
        if agreeing and one.per_cpu:
            data = data[: one.stride] * CPUS
        one._entries.append((bytes_of(chance, info.key_size), data))
    count = len(one._entries)
    one._cuts = sorted(chance.sample(range(count + 1), min(2, count)))
    return OfPretended(one, btf)


def never(word: str) -> NoReturn:
    raise AssertionError(f"{word} is no JSON")


def shown_line(entries: Entries, one: MapEntry) -> str:
    shown = untyped if entries.decoders.key is decode_raw else format_value
    return f"{shown(one.key)}: {plain_value(entries, one.value)}\n"


def compare(entries: Entries) -> None:
    encode = json.JSONEncoder(separators=(",", ":")).encode
    expected = [entry_json(one) for one in entries.entries()]
    out, lines = io.StringIO(), io.StringIO()
    assert entries.write_json(out) == entries.write_lines(lines) == len(expected)
    assert out.getvalue() == ",".join(map(encode, expected))
    json.loads(f"[{out.getvalue()}]", parse_constant=never)
    assert lines.getvalue() == "".join(shown_line(entries, one) for one in entries.entries())


KINDS = (
    MapType.HASH, MapType.LRU_HASH, MapType.ARRAY, MapType.LPM_TRIE, MapType.PERCPU_HASH, MapType.PERCPU_ARRAY,
)  # fmt: skip


@pytest.mark.parametrize("typed", [True, False], ids=["typed", "untyped"])
@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name.lower())
def test_columns_say_what_the_decoder_says(kind: MapType, typed: bool) -> None:
    for seed in range(40):
        chance = random.Random(f"{kind.name} {typed} {seed}")
        try:
            compare(made(chance, kind, typed=typed))
        except BaseException as error:
            error.add_note(f"seed {seed}")
            raise
