"""The settings of net.core that matter to programs: how many packets a CPU takes at once, and how many may wait.

They belong to the whole machine, and are to be seen in its first network namespace only. somaxconn and the sizes of
sockets' buffers are of no concern here: programs run before there is a socket.
"""

from pathlib import Path
from typing import Final, NamedTuple

from netbpf.host.finding import Finding, ok, warning
from netbpf.host.kernel_checks import NET_CORE, setting

_SOFTNET: Final = Path("/proc/net/softnet_stat")
_BACKLOG: Final = 1000  # the kernel's defaults (net/core/hotdata.c, net/core/dev.c)
_BUDGET: Final = 300
_ENOUGH_BACKLOG: Final = 10_000
_ENOUGH_BUDGET: Final = 600
_OFTEN: Final = 0.001  # of the packets


class Softnet(NamedTuple):
    """Sums over all CPUs since the start: packets taken, dropped as the backlog was full, and rounds cut short."""

    processed: int
    dropped: int
    squeezed: int


def softnet(text: str) -> Softnet:
    """/proc/net/softnet_stat: a line for each CPU, numbers in hex (net/core/net-procfs.c softnet_seq_show)."""
    rows = [[int(word, 16) for word in line.split()[:3]] for line in text.splitlines() if line]
    return Softnet(*(sum(row[column] for row in rows) for column in range(3)))


def checks(directory: Path = NET_CORE, stat: Path = _SOFTNET) -> list[Finding]:
    """All of them; where the settings cannot be seen, one line that says so."""
    backlog, budget = setting("netdev_max_backlog", directory), setting("netdev_budget", directory)
    if backlog is None or budget is None:
        return [
            ok(
                "net.core",
                "its settings are those of the first network namespace, and not to be seen in this one",
            )
        ]
    try:
        seen = softnet(stat.read_text())
    except (OSError, ValueError, TypeError):
        seen = Softnet(0, 0, 0)
    return [_backlog(backlog, seen), _budget(budget, seen)]


def _backlog(found: int, seen: Softnet) -> Finding:
    """Generic XDP with RPS, veth without NAPI and redirects to the stack queue packets here."""
    text = f"net.core.netdev_max_backlog is {found}"
    if found < _BACKLOG:
        return warning(
            "backlog", f"{text}; the kernel's default is {_BACKLOG}", "packets are dropped when more wait for a CPU",
            f"sysctl -w net.core.netdev_max_backlog={_BACKLOG}",
        )  # fmt: skip
    if seen.dropped and found < _ENOUGH_BACKLOG:
        return warning(
            "backlog", f"{text}, and {seen.dropped:,} packets were dropped since the start because it was full",
            "generic XDP, veth and RPS queue packets there; no counter of a program sees those",
            f"sysctl -w net.core.netdev_max_backlog={_ENOUGH_BACKLOG}",
        )  # fmt: skip
    return ok("backlog", f"{text}; {seen.dropped:,} packets dropped since the start")


def _budget(found: int, seen: Softnet) -> Finding:
    text = f"net.core.netdev_budget is {found}"
    if found < _BUDGET:
        return warning(
            "budget", f"{text}; the kernel's default is {_BUDGET}", "a CPU leaves packets in the card's queue sooner",
            f"sysctl -w net.core.netdev_budget={_BUDGET}",
        )  # fmt: skip
    if seen.squeezed > seen.processed * _OFTEN and seen.squeezed > 1000 and found < _ENOUGH_BUDGET:
        return warning(
            "budget", f"{text}, and {seen.squeezed:,} rounds ended with packets left over",
            "a program that takes long on each packet fills the card's queue, which then drops",
            f"sysctl -w net.core.netdev_budget={_ENOUGH_BUDGET}",
        )  # fmt: skip
    return ok(
        "budget", f"{text}; {seen.squeezed:,} rounds of {seen.processed:,} packets ended early"
    )
