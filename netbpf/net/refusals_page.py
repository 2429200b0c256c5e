"""docs/why-not-attach.md, made from the catalogue that the code uses.

``python -m netbpf.net.refusals_page > docs/why-not-attach.md``
"""

import sys
from collections.abc import Iterable, Sequence
from typing import Final

from netbpf.net.refusals import REFUSALS

_HEAD: Final = """\
# Why can my program not be attached?

The kernel answers with an errno, and over netlink with a few words. netbpf makes three things of it: the cause, who is
in the way, and the next command, with the names and numbers of this machine:

```text
netbpf: error: cannot attach an XDP program to eth0 in mode native: it receives on 1 queue, and its other end eth1
sends on 4: veth: XDP expects number of rx queues not less than peer tx queues; ethtool -L eth1 tx 1; or use --mode skb
```

The kernel's words stay in the message, so that they can be searched for. To a bpf_link (`--link`) the kernel gives no
words; without `--link` it does. Where a driver writes its reason into the kernel's log only (mlx5, ixgbe), netbpf says
which offloads and which MTU are likely to be it, and the log is `dmesg`.

## What the kernel says of XDP
"""

# netbpf's words, what they mean, what to do.
_TAKEN: Final = (
    ("eth0 xdp already runs count (program 12, native, not managed by netbpf, loaded 3m 20s ago)",
     "a program of others; its manager is named where it shows, and its user unless that is root",
     "`netbpf detach xdp eth0 --force`, if nobody needs it"),
    ("... native link, not managed by netbpf, loaded 5s ago, held by process 812 (xdpdump)",
     "a bpf_link holds it: it goes when no process has the link open and no pin is left",
     "end that process, remove that pin, or `netbpf detach xdp eth0 --force`"),
    ("... is there, and the kernel allows one mode at a time",
     "native and skb exclude each other",
     "take the other one off"),
    ("eth0 has an 'ingress' qdisc that netbpf did not make, with a flower filter on it",
     "an `ingress` and a `clsact` qdisc cannot be on one interface",
     "`tc qdisc del dev eth0 ingress` if nobody needs its filters, or `--link` (TCX), which needs no qdisc"),
    ("the filters of its qdisc are a block that other interfaces use too",
     "the qdisc was made with `ingress_block` or `egress_block`",
     "`--link`, or `tc filter add block N`"),
    ("eth0 tc/ingress has a flower filter (priority 49152) that netbpf did not make",
     "filters of others decide about the same packets",
     "`--pref N` to run beside it, or `--link` to run before all filters"),
    ("TCX tc/ingress of eth0 is full", "64 programs are on the hook", "take some off"),
    ("... changed meanwhile ...", "somebody else was faster", "look with `netbpf status`, and try again"),
)  # fmt: skip

# What confines a process that has every capability, where it shows, what to do.
_CONFINED: Final = (
    ("a seccomp filter", "`Seccomp: 2` in /proc/self/status; containers have one",
     "`docker run --security-opt seccomp=unconfined`, a profile that allows bpf(2), or run it on the host"),
    ("a user namespace", "/proc/self/uid_map", "run it outside: bpf(2) asks for the host's capabilities"),
    ("kernel lockdown", "/sys/kernel/security/lockdown",
     "do without what it forbids: `integrity` bpf_probe_write_user(), `confidentiality` reading kernel memory"),
    ("SELinux", "/sys/fs/selinux/enforce", "`ausearch -m avc -ts recent` shows what it denied"),
)  # fmt: skip

_PERMISSION: Final = """\
## Permission

A capability that is missing is named: CAP_BPF to load, CAP_NET_ADMIN for network programs and to attach, CAP_PERFMON
for pointer arithmetic and tracing, CAP_SYS_ADMIN to look at other programs. When all are there and the kernel says no
all the same, netbpf looks for what is in force:
"""

_TAIL: Final = """\
`kernel.unprivileged_bpf_disabled` says whether processes without CAP_BPF may use bpf(2) at all; XDP and TC programs
need the capabilities anyway.
"""


def page() -> str:
    """The whole page as Markdown."""
    kernel = [
        ("<br>".join(f"`{each}`" for each in one.words), one.by, one.meaning, one.remedy)
        for one in REFUSALS
    ]
    taken = [(f"`{words}`", meaning, remedy) for words, meaning, remedy in _TAKEN]
    return "\n".join(
        [
            _HEAD,
            _table(("the kernel says", "who", "it means", "what to do"), kernel),
            "## The hook is taken\n",
            _table(("netbpf says", "it means", "what to do"), taken),
            _PERMISSION,
            _table(("in force", "where it shows", "what to do"), _CONFINED),
            _TAIL,
        ]
    )


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [f"| {' | '.join(cells)} |" for cells in (head, *rows)]
    return "\n".join([lines[0], "|" + "---|" * len(head), *lines[1:], ""])


if __name__ == "__main__":
    sys.stdout.write(page())
