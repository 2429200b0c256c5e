"""Maps that hold histograms: the slots, their ranges, and how to draw them.

Nothing in a map says that it is one, nor which numbers a slot stands for. Two forms are known: the key, or one of its
members, is the slot and the value a count (BCC's ``BPF_HISTOGRAM`` and most arrays); or the value is or has an array
of slots. The scale is said, or taken by the form, and what was taken is shown:

=========  ===============================  =====================================================
scale      slot N stands for                taken for
=========  ===============================  =====================================================
``bcc``    2^(N-1) to 2^N - 1, slot 1 for   slots in keys, at most 65 of them: ``bpf_log2l()``
           0 and 1
``log2``   2^N to 2^(N+1) - 1, slot 0 for   arrays in values, at most 64 long
           0 and 1
``linear`` the number N                     all others
=========  ===============================  =====================================================
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, Literal

from netbpf.bpf.btf.values import Value
from netbpf.errors import NotSupportedError
from netbpf.live.reader import OpenMap
from netbpf.text import escape

Scale = Literal["bcc", "log2", "linear"]
_LOG2_SLOTS: Final = 65
_MOST: Final = 1 << 16  # slots of one histogram
_WORDS: Final = (
    "slot",
    "bucket",
    "bin",
    "index",
)  # what programs call the slot in a key of several members


@dataclass(frozen=True, slots=True)
class Slot:
    """One slot: the numbers ``low`` to ``high`` that it stands for, and how often they came."""

    low: int
    high: int
    count: int


@dataclass(frozen=True, slots=True)
class Histogram:
    """A histogram; ``key`` is the key, or its other members, where a map holds several, else None."""

    key: Value
    scale: Scale
    slots: tuple[Slot, ...]

    @property
    def total(self) -> int:
        """How many were counted."""
        return sum(one.count for one in self.slots)


def histograms(one: OpenMap, scale: Scale | None = None) -> list[Histogram]:
    """The histograms in a map, from the first slot that counted to the last; those without any are left out.

    NotSupportedError for a map whose entries are not slots with counts.
    """
    found: dict[str, tuple[Value, dict[int, int]]] = {}
    highest, keyed = 0, True
    for raw, data in one.map.entries():
        key, value = one.key(raw), one.total(data)
        counts = _array(value)
        if counts is not None:
            keyed = False
            highest = max(highest, len(counts) - 1)
            plain = one.info.max_entries == 1
            part = {slot: count for slot, count in enumerate(counts) if count}
            if part:
                found[repr(key)] = (None if plain else key, part)
            continue
        others, slot = _slot(key, raw)
        count = _number(value, data)
        if slot is None or count is None or not 0 <= slot < _MOST:
            raise NotSupportedError(
                f"map {escape(one.name)} is no histogram: its entries are not slots with a count",
                hint=f"netbpf map dump {one.info.id}",
            )
        highest = max(highest, slot)
        if count:
            found.setdefault(repr(others), (others, {}))[1][slot] = count
    few = highest < _LOG2_SLOTS
    chosen: Scale = scale or (("bcc" if keyed else "log2") if few else "linear")
    return [Histogram(key, chosen, tuple(_slots(part, chosen))) for key, part in found.values()]


def _slots(counts: dict[int, int], scale: Scale) -> Iterator[Slot]:
    for slot in range(min(counts), max(counts) + 1):
        low, high = slot, slot
        if scale != "linear":
            power = slot if scale == "log2" else slot - 1
            low, high = (1 << power if power > 0 else 0), (1 << power + 1) - 1 if power >= 0 else 0
        yield Slot(low, high, counts.get(slot, 0))


def _array(value: Value) -> list[int] | None:
    """The slots in a value: a list of numbers, or a struct's only one."""
    lists = (
        [part for part in value.values() if isinstance(part, list)]
        if isinstance(value, dict)
        else [value]
    )
    if len(lists) != 1 or not isinstance(lists[0], list):
        return None
    numbers = [one for one in lists[0] if isinstance(one, int)]
    return numbers if len(numbers) == len(lists[0]) else None


def _number(value: Value, data: bytes | memoryview) -> int | None:
    if isinstance(value, str) and len(data) in (4, 8):
        return int.from_bytes(data, "little")  # without types
    return value if isinstance(value, int) else None


def _slot(key: Value, raw: bytes | memoryview) -> tuple[Value, int | None]:
    """What is beside the slot in a key, and the slot."""
    if isinstance(key, dict) and key:
        name = next((word for word in _WORDS if word in key), list(key)[-1])
        slot = key[name]
        others: Value = {word: value for word, value in key.items() if word != name}
        return others, slot if isinstance(slot, int) else None
    return None, _number(key, raw)


def bar(count: int, most: int, width: int) -> str:
    """A bar of ``*``: at least one where something was counted."""
    return "*" * (max(count * width // most, 1) if count else 0)
