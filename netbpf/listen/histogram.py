"""Maps that hold histograms: the slots, their ranges, and how to draw them.

Nothing in a map says that it is one. BCC's ``BPF_HISTOGRAM`` and most programs count in slots: the key, or its last
member, is the slot's number, the value a count. Whether slot N is the number N or the numbers from 2^(N-1) on is the
program's choice: at most 65 slots, as a logarithm of 64 bits needs, are taken as log2, unless the user says otherwise,
and what was taken is shown.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, Literal

from netbpf.bpf.btf.values import Value
from netbpf.errors import NotSupportedError
from netbpf.live.reader import OpenMap
from netbpf.text import escape

Scale = Literal["log2", "linear"]
_LOG2_SLOTS: Final = 65
_MOST: Final = 4096  # slots of one histogram
_WORDS: Final = ("slot", "bucket", "bin", "index")  # what programs call the slot in a key of several members


@dataclass(frozen=True, slots=True)
class Slot:
    """One slot: the numbers ``low`` to ``high`` that it stands for, and how often they came."""

    low: int
    high: int
    count: int


@dataclass(frozen=True, slots=True)
class Histogram:
    """A histogram; ``key`` are the other members of the key where a map holds several, else None."""

    key: Value
    scale: Scale
    slots: tuple[Slot, ...]

    @property
    def total(self) -> int:
        """How many were counted."""
        return sum(one.count for one in self.slots)


def histograms(one: OpenMap, scale: Scale | None = None) -> list[Histogram]:
    """The histograms in a map, from the first slot that counted to the last; those without any are left out.

    ``scale`` None: log2 where there are at most 65 slots. NotSupportedError for a map whose entries are not slots.
    """
    found: dict[str, tuple[Value, dict[int, int]]] = {}
    highest = 0
    for key, slot, count in _entries(one):
        highest = max(highest, slot)
        if count:
            found.setdefault(repr(key), (key, {}))[1][slot] = count
    room = one.info.max_entries if not isinstance(_sample(one), dict) else highest + 1
    chosen: Scale = scale or ("log2" if room <= _LOG2_SLOTS else "linear")
    return [Histogram(key, chosen, tuple(_slots(counts, chosen))) for key, counts in found.values()]


def _slots(counts: dict[int, int], scale: Scale) -> Iterator[Slot]:
    for slot in range(min(counts), max(counts) + 1):
        if scale == "linear":
            yield Slot(slot, slot, counts.get(slot, 0))
        else:
            # As BCC and bpftool have it: slot 0 is 0 and 1, slot 1 is 2 and 3, slot 2 is 4 to 7.
            yield Slot(1 << slot if slot else 0, (1 << slot + 1) - 1, counts.get(slot, 0))


def _sample(one: OpenMap) -> Value:
    first = next(iter(one.map.entries(1)), None)
    return one.key(first[0]) if first else None


def _entries(one: OpenMap) -> Iterator[tuple[Value, int, int]]:
    """Key without its slot, slot, count."""
    for key, data in one.map.entries():
        name, slot = _slot(one.key(key), key)
        count = one.total(data)
        if isinstance(count, str) and len(data) >= one.info.value_size in (4, 8):
            count = int(count, 16)  # without types: a number of 4 or 8 bytes
        if slot is None or not isinstance(count, int) or not 0 <= slot < _MOST:
            raise NotSupportedError(
                f"map {escape(one.name)} is no histogram: its entries are not slots with a count",
                hint=f"netbpf map dump {one.info.id}",
            )
        yield name, slot, count


def _slot(key: Value, raw: bytes | memoryview) -> tuple[Value, int | None]:
    if isinstance(key, int):
        return None, key
    if isinstance(key, str) and len(raw) in (4, 8):
        return None, int.from_bytes(raw, "little")
    if isinstance(key, dict) and key:
        name = next((word for word in _WORDS if word in key), list(key)[-1])
        slot = key[name]
        others = {word: value for word, value in key.items() if word != name}
        return others, slot if isinstance(slot, int) else None
    return None, None


def bar(count: int, most: int, width: int) -> str:
    """A bar of ``*``: at least one where something was counted."""
    return "*" * (max(count * width // most, 1) if count else 0)
