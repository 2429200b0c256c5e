"""The table, and the same as JSON."""

import statistics
from collections.abc import Iterable
from typing import Any

from benchmarks.bed import MANY
from benchmarks.lines import BARE, MANY_NAME, MARGINAL, ONE
from benchmarks.measure import Ratio, Result, Times, ratio

_FORMAT = "{:<18} {:>10}  {:<22} {:<24} {}"


class Verdicts:
    """Aims, and whether they were met."""

    def __init__(self) -> None:
        self.all: list[tuple[str, str, bool]] = []

    def add(self, line: str, aim: str, met: bool) -> str:
        """Note one; how it is shown."""
        self.all.append((line, aim, met))
        return f"aim {aim}: {'met' if met else 'MISSED'}"


def head() -> str:
    """What the columns are."""
    return (
        _FORMAT.format("", "median", "x python -c pass", "x netbpf", "")
        + "\n"
        + _FORMAT.format("", "", "  (quartiles)", "  (quartiles)", "").rstrip()
    )


def block(result: Result, verdicts: Verdicts) -> str:
    """One line of the benchmark: a row per contestant."""
    netbpf = result.of("netbpf")
    rows = [f"{result.line.name}: {result.line.what}"]
    for one in result.times:
        if one.failure:
            rows.append(f"  {one.contestant.who:<16} cannot do this here: {one.failure[:150]}")
        elif not one.contestant.extra:
            rows.append(_row(one, result, netbpf, verdicts))
    rows += [f"  {text}" for text in result.line.missing]
    if result.line.name == MANY_NAME and not netbpf.failure:
        rows += _many(result, netbpf, verdicts)
    return "\n".join(rows)


def _row(one: Times, result: Result, netbpf: Times, verdicts: Verdicts) -> str:
    compared = ratio(one.seconds, result.python)
    remarks = [one.contestant.note] if one.contestant.note else []
    beside = ""
    if one is netbpf:
        if result.line.at_most:
            aim = f"<= {result.line.at_most:g} x python"
            remarks.append(
                verdicts.add(result.line.name, aim, compared.middle <= result.line.at_most)
            )
    elif not netbpf.failure:
        beside = _shown(ratio(one.seconds, netbpf.seconds))
    text = _FORMAT.format(
        f"  {one.contestant.who}", _duration(one.median), _shown(compared), beside, "; ".join(remarks)
    )  # fmt: skip
    return text.rstrip()


def _many(result: Result, netbpf: Times, verdicts: Verdicts) -> list[str]:
    loops = [
        one for one in result.times
        if not one.failure and not one.contestant.extra and one is not netbpf and one.contestant.who != BARE
    ]  # fmt: skip
    rows = []
    if loops:
        slower = [ratio(one.seconds, netbpf.seconds).middle for one in loops]
        rows.append(
            "  "
            + verdicts.add(
                MANY_NAME, "beat every peer's loop", all(one > 1 for one in slower)
            )
        )  # fmt: skip
    single = result.of(ONE)
    bare = next((one for one in result.times if one.contestant.who == BARE), None)
    if single.failure or bare is None or bare.failure:
        return rows
    each = marginal(netbpf.seconds, single.seconds)
    kernel = [one / MANY for one in bare.seconds]
    middle, least = statistics.median(each), statistics.median(kernel)
    aim = verdicts.add(MANY_NAME, f"<= {MARGINAL:g} x the bare call", middle <= MARGINAL * least)
    rows.append(
        f"  per interface: netbpf {_duration(middle)} (what each beyond the first adds), {BARE} {_duration(least)}, "
        f"{middle / least:.2f} x; {aim}"
    )
    rows.append(
        f"  with its start, loading included: {_duration(netbpf.median / MANY)} per interface"
    )
    return rows


def marginal(many: Iterable[float], one: Iterable[float]) -> list[float]:
    """What each interface beyond the first adds, in seconds, by round."""
    return [(total - first) / (MANY - 1) for total, first in zip(many, one, strict=True)]


def _shown(found: Ratio) -> str:
    return f"{found.middle:7.2f} ({found.low:.2f}-{found.high:.2f})"


def _duration(seconds: float) -> str:
    return f"{seconds * 1e3:.1f} ms" if seconds >= 1e-3 else f"{seconds * 1e6:.0f} us"


def as_json(result: Result) -> dict[str, Any]:
    """One line: every round of every contestant, in seconds."""
    return {
        "name": result.line.name,
        "what": result.line.what,
        "python": result.python,
        "contestants": [
            {"who": one.contestant.who, "command": list(one.contestant.command), "note": one.contestant.note,
             "seconds": one.seconds, "failure": one.failure or None}
            for one in result.times
        ],
        "missing": list(result.line.missing),
    }  # fmt: skip
