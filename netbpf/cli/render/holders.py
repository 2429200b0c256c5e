"""Who holds and uses things of the kernel: the same for programs, maps and links."""

from collections.abc import Iterable
from typing import Any

from netbpf.bpf.holders import Holders, Process
from netbpf.model import Attachment
from netbpf.text import escape


def holders_json(holders: Holders) -> dict[str, Any]:
    """``pinned`` and ``pids``, as bpftool -f has them; always there."""
    return {
        "pinned": list(holders.pins),
        "pids": processes_json(holders.processes),
    }


def processes_json(processes: Iterable[Process]) -> list[dict[str, Any]]:
    """``pids`` alone."""
    return [{"pid": one.pid, "comm": one.name} for one in processes]


def hooks_json(hooks: Iterable[Attachment]) -> list[dict[str, Any]]:
    """Where on interfaces a program runs."""
    return [
        {
            "interface": one.occupant.interface.name,
            "ifindex": one.occupant.interface.index,
            "netns": one.netns_name,
            "hook": one.occupant.hook.value,
        }
        for one in hooks
    ]


def hook_words(hooks: Iterable[Attachment]) -> list[str]:
    """``eth0 xdp``, ``blue:eth0 tc/ingress``."""
    return [
        f"{escape(one.netns_name)}:{escape(one.occupant.interface.name)} {one.occupant.hook}"
        if one.netns_name
        else f"{escape(one.occupant.interface.name)} {one.occupant.hook}"
        for one in hooks
    ]


def process_words(processes: Iterable[Process]) -> list[str]:
    """``bpftool(123)``."""
    return [f"{escape(one.name)}({one.pid})" for one in processes]


def used_by(hooks: Iterable[Attachment], holders: Holders) -> str:
    """The cell of a table that says who needs it."""
    words = [*hook_words(hooks), *process_words(holders.processes), *map(escape, holders.pins)]
    few = 2
    return ", ".join(words[:few]) + (f" and {len(words) - few} more" if len(words) > few else "")
