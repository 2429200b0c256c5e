"""Rates from two readings: per second, and never below zero."""

from netbpf.bpf.btf.values import Value, format_value
from netbpf.live.model import HookStats, MemberStats
from netbpf.live.tables import PROTOCOLS_MAP, VERDICTS_MAP

Rate = float


class Rates:
    """Remembers the highest reading of each counter, and tells how fast it grew since the last one.

    A variable that several CPUs add to without atomics can go back a little when one of them writes an old sum;
    that is no negative traffic. Counters are compared with the highest value seen, so what goes back is shown as
    0 until it has caught up. One that falls below half of that was set anew, and starts again from there.
    """

    def __init__(self) -> None:
        self._highest: dict[str, int] = {}
        self._taken_at: float | None = None

    def update(self, found: HookStats) -> dict[str, Rate]:
        """Rates per second by name: ``run``, ``verdict/pass``, ``verdict-bytes/pass``, ``variable/packets``,
        ``map/flows[53].packets`` and so on, as ``counters`` names them; those of a chain with the
        member's name in front: ``verdict/acl.drop``, ``variable/acl.packets``.

        Empty for the first reading.
        """
        before, self._taken_at = self._taken_at, found.taken_at
        elapsed = found.taken_at - before if before is not None else 0.0
        rates = {}
        for name, value in counters(found).items():
            highest = self._highest.get(name)
            if highest is None or value >= highest or value < highest // 2:
                self._highest[name] = value
            if highest is not None and elapsed > 0:
                rates[name] = max(value - highest, 0) / elapsed
        return rates


def counters(found: HookStats) -> dict[str, int]:
    """Every number of a reading that can be a counter, by name."""
    numbers: dict[str, int] = {}
    if found.run:
        numbers["run"] = found.run.count
        numbers["run_ns"] = found.run.time_ns
    for kind, table in (("verdict", found.verdicts), ("protocol", found.protocols)):
        for name, counter in table.items():
            numbers[f"{kind}/{name}"] = counter.packets
            numbers[f"{kind}-bytes/{name}"] = counter.bytes
    _held("", found, numbers)
    for member in found.members:
        owner = f"{member.member.name}."
        for name, packets in member.verdicts.items():
            numbers[f"verdict/{owner}{name}"] = packets
        _held(owner, member, numbers)
    return numbers


def _held(owner: str, found: HookStats | MemberStats, numbers: dict[str, int]) -> None:
    for variable in found.variables:
        if variable.writable:
            _flatten(f"variable/{owner}{variable.name}", variable.value, numbers)
    for each in found.maps:
        if each.name not in (VERDICTS_MAP, PROTOCOLS_MAP):
            for entry in each.entries:
                _flatten(f"map/{owner}{each.name}[{format_value(entry.key)}]", entry.value, numbers)


def _flatten(name: str, value: Value, numbers: dict[str, int]) -> None:
    if isinstance(value, bool):
        return
    if isinstance(value, int):
        numbers[name] = value
    elif isinstance(value, dict):
        for part, inner in value.items():
            _flatten(f"{name}.{part}", inner, numbers)
    elif isinstance(value, list) and len(value) <= 64:
        for index, inner in enumerate(value):
            _flatten(f"{name}[{index}]", inner, numbers)
