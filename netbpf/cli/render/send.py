"""What ``netbpf send`` prints."""

from collections.abc import Iterator
from typing import Any

from netbpf.cli.output import Line, Table, print_json, say
from netbpf.text import escape
from netbpf.traffic.model import Arrivals, SendResult


def print_send(result: SendResult, *, as_json: bool) -> None:
    """What was sent and what arrived, or ``netbpf.send/1``."""
    if as_json:
        print_json("send", _json(result))
        return
    say(_lines(result))


def _json(result: SendResult) -> dict[str, Any]:
    return {
        "interface": result.interface,
        "way": result.way,
        "sent": result.sent,
        "bytes": result.bytes,
        "dropped": result.dropped,
        "seconds": round(result.seconds, 6),
        "packets_per_second": round(result.packets_per_second),
        "rate": result.rate,
        "behind": result.behind,
        "waits": result.waits,
        "skipped": result.skipped,
        "interface_dropped": result.interface_dropped,
        "stopped": result.stopped,
        "arrivals": None if result.arrivals is None else _arrivals_json(result.arrivals),
        "warnings": list(result.warnings),
    }


def _arrivals_json(found: Arrivals) -> dict[str, Any]:
    return {
        "interface": found.interface,
        "received": found.received,
        "bytes": found.bytes,
        "lost": found.lost,
        "loss_percent": round(found.loss_percent, 6),
        "duplicates": found.duplicates,
        "reordered": found.reordered,
        "damaged": found.damaged,
        "merged": found.merged,
    }


def _lines(result: SendResult) -> Iterator[Line]:
    name = escape(result.interface)
    how = " as XDP frames" if result.way == "xdp" else ""
    stopped = ", then stopped" if result.stopped else ""
    rate = ""
    if result.sent > 1:
        rate = (
            f" in {result.seconds:.2f} s, {result.packets_per_second:,.0f} per second, "
            f"{_bits(result.bits_per_second)}"
        )
    yield Line(f"{name}: {_count(result.sent)} sent{how}{rate}{stopped}", "bold")
    if result.behind:
        asked = f"{result.rate:,.0f} per second" if result.rate else "the recorded times"
        yield Line(f"  {asked} could not be held")
    for why, number in result.skipped.items():
        yield Line(f"  {_count(number)} not sent: {why}")
    if result.dropped:
        yield Line(f"  {_count(result.dropped)} not taken by the driver of {name}")
    if result.waits:
        yield Line(f"  waited {result.waits:,} times for a full queue")
    if result.interface_dropped:
        yield Line(f"  {name} counted {result.interface_dropped:,} packets dropped meanwhile")
    if result.arrivals is not None:
        yield from _arrivals(result.arrivals, result.sent)


def _arrivals(found: Arrivals, sent: int) -> Iterator[Line]:
    table = Table(f"  at {escape(found.interface)}", "packets", "share", right=("packets", "share"))

    def row(what: str, number: int) -> None:
        table.add_row(f"  {what}", f"{number:,}", f"{100 * number / sent:.4g} %" if sent else "-")

    row("received", found.received)
    row("lost", found.lost)
    for what, number in (
        ("damaged", found.damaged),
        ("duplicates", found.duplicates),
        ("reordered", found.reordered),
    ):
        if number:
            row(what, number)
    yield from table.lines()
    if found.merged:
        yield Line(
            f"  {found.merged:,} were merged by GRO before they could be counted: ethtool -K "
            f"{escape(found.interface)} gro off"
        )


def _count(number: int) -> str:
    return f"{number:,} packet{'' if number == 1 else 's'}"


def _bits(rate: float) -> str:
    for unit in ("bit/s", "kbit/s", "Mbit/s"):
        if rate < 1000:
            return f"{rate:.3g} {unit}"
        rate /= 1000
    return f"{rate:.3g} Gbit/s"
