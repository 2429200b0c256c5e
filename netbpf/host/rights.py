"""The capabilities of this process, and what each is good for."""

from typing import Final

from netbpf._sys.capabilities import Capability, missing
from netbpf.host.finding import Finding, ok, problem, warning

# capabilities(7); kernel/bpf/syscall.c, net/core/rtnetlink.c, fs/namespace.c of Linux 6.18. The first two are what
# attaching cannot do without.
_NEEDED: Final = {
    Capability.BPF: "load programs and make maps (Linux 5.8; before, CAP_SYS_ADMIN)",
    Capability.NET_ADMIN: "attach to interfaces, and load XDP and TC programs",
}
_WANTED: Final = {
    Capability.SYS_ADMIN: "see programs by their ids (status, stats), enter namespaces (--netns), mount a bpffs",
    Capability.PERFMON: "load programs that read kernel memory, attach to tracepoints and functions, listen to perf "
    "buffers",
    Capability.NET_RAW: "send packets from raw sockets",
    Capability.SYSLOG: "see addresses and symbols of the kernel (prog dump --jited)",
}


def checks() -> list[Finding]:
    """A line for all that are there, and one for each that is missing."""
    lacking = missing(*_NEEDED, *_WANTED)
    there = [f"CAP_{one.name}" for one in (*_NEEDED, *_WANTED) if one not in lacking]
    found = [ok("capabilities", " ".join(there))] if there else []
    for one in lacking:
        text = f"CAP_{one.name} is missing: needed to {_NEEDED.get(one) or _WANTED[one]}"
        why = "run netbpf as root, or give its process this capability (systemd: AmbientCapabilities=)"
        found.append((problem if one in _NEEDED else warning)("capabilities", text, why))
    return found
