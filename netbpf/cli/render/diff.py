"""What ``netbpf diff`` prints."""

from collections.abc import Iterator
from typing import Any

from netbpf.cli.output import Line, print_json, say
from netbpf.cli.render.replay import count, samples_json, skipped_lines
from netbpf.packets.diff_model import DiffGroup, DiffResult
from netbpf.packets.replay_headers import summary
from netbpf.text import escape

_COMMON = 6  # fields of a group that people see


def print_diff(result: DiffResult, *, as_json: bool) -> None:
    """The groups of packets that differ, or ``netbpf.diff/1``."""
    if as_json:
        print_json("diff", _json(result))
        return
    say(_lines(result))


def _json(result: DiffResult) -> dict[str, Any]:
    return {
        "old": result.old,
        "new": result.new,
        "hook": "xdp" if result.hook == "xdp" else "tc",
        "packets": result.packets,
        "different": result.different,
        "groups": [_group_json(one) for one in result.groups],
        "skipped": result.skipped,
        "warnings": list(result.warnings),
    }


def _group_json(one: DiffGroup) -> dict[str, Any]:
    return {
        "old": one.old,
        "new": one.new,
        "protocol": one.protocol,
        "changed": list(one.changed),
        "packets": one.packets,
        "common": one.common,
        "ranges": {name: {"least": low, "most": high} for name, (low, high) in one.ranges.items()},
        "samples": samples_json(one.samples),
    }


# --- text ---


def _lines(result: DiffResult) -> Iterator[Line]:
    head = f"{count(result.packets)}, "
    if not result.different:
        yield Line(head + "no difference", "bold")
    else:
        verb = "differs" if result.different == 1 else "differ"
        yield Line(head + f"{result.different:,} {verb}", "bold")
    for one in result.groups:
        yield from _group_lines(one)
    yield from skipped_lines(result.skipped)


def _group_lines(one: DiffGroup) -> Iterator[Line]:
    what = one.old if one.old == one.new else f"{one.old} -> {one.new}"
    yield Line(f"  {count(one.packets)}: {what}, {one.protocol}", "bold")
    if one.changed:
        yield Line(f"    differs in {', '.join(one.changed)}")
    alike = [f"{name} {escape(str(value))}" for name, value in one.common.items()]
    alike += [f"{name} {low}-{high}" for name, (low, high) in one.ranges.items()]
    if one.packets > 1 and alike:
        yield Line(f"    all have {', '.join(alike[:_COMMON])}")
    for sample in one.samples:
        yield Line(f"    #{sample.number} {summary(sample.data)}", "dim")
