"""``netbpf monitor --json``: one object per line, ``netbpf.monitor/1``."""

from typing import TYPE_CHECKING, Any

from netbpf.cli.output import print_json
from netbpf.listen.monitor import error_name
from netbpf.listen.monitor_model import Count, Happening, Kind, Lost, Reading
from netbpf.model import Interface
from netbpf.net.netns import Namespace

if TYPE_CHECKING:
    from netbpf.listen.monitor import Monitor


class JsonLines:
    """A record for the start, for each thing that happened since the last look, and for the end."""

    def __init__(self, namespace: Namespace) -> None:
        self._namespace = namespace

    def start(self, monitor: "Monitor") -> None:
        """What is watched."""
        record = {
            "record": "start",
            "netns": self._namespace.name,
            "interfaces": monitor.interfaces,
            "missing": list(monitor.missing),
        }
        print_json("monitor", record)

    def show(self, reading: Reading) -> None:
        """What happened since the last look."""
        for one in reading.counts:
            if one.new_events:
                record = {
                    "record": "event",
                    "time": reading.at,
                    "seconds": round(reading.seconds, 6),
                    **_happening(one.happening),
                    "new_events": one.new_events,
                    "new_packets": one.new_packets,
                    **_totals(one),
                }
                print_json("monitor", record)

    def end(self, reading: Reading, seconds: float) -> None:
        """All of it."""
        self.show(reading)
        record = {
            "record": "summary",
            "time": reading.at,
            "seconds": round(seconds, 6),
            "events": sum(one.events for one in reading.counts),
            "happenings": [_happening(one.happening) | _totals(one) for one in reading.counts],
            "lost": _lost(reading.lost),
        }
        print_json("monitor", record)

    def close(self) -> None:
        """Nothing to put back."""


def _totals(one: Count) -> dict[str, Any]:
    return {"events": one.events, "packets": one.packets}


def _happening(one: Happening) -> dict[str, Any]:
    suspect = one.program
    return {
        "tracepoint": one.kind.tracepoint,
        "interface": _interface(one.interface, one.netns),
        "hook": one.hook or None,
        "program": {
            "id": suspect.id,
            "name": suspect.name,
            "members": list(suspect.members),
            "certain": suspect.certain,
        }
        if suspect
        else None,
        "verdict": one.verdict or None,
        "errno": one.errno or None,
        "error": error_name(one.errno) or None,
        "reason": one.reason or None,
        "function": one.function or None,
        "target": _interface(one.target, one.target_netns),
        "map": {"id": one.map_id, "name": one.map_name} if one.map_id else None,
        "cpu": one.cpu,
        **_example(one),
        "cause": one.cause,
        "advice": one.advice or None,
    }


def _example(one: Happening) -> dict[str, Any]:
    """What packets may choose: of the last one, and null where it means nothing."""
    redirect = one.kind is Kind.REDIRECT
    return {
        "index": one.example if redirect else None,
        "protocol": one.example if one.kind is Kind.DROP else None,
        "same": one.alike,
    }


def _interface(one: Interface | None, netns: str | None) -> dict[str, Any] | None:
    if one is None:
        return None
    return {"name": one.name, "ifindex": one.index, "netns": netns, "netns_inode": one.netns}


def _lost(lost: Lost) -> dict[str, Any]:
    return {"crowded": dict(lost.crowded), "nested": dict(lost.nested)}
