"""What may forbid bpf(2) to a process that has every capability: seccomp, user namespaces, lockdown, modules.

The kernel says EPERM to all of them alike, so what is in force is read from where it shows.
"""

from pathlib import Path
from typing import Final, NamedTuple

_THREAD: Final = Path("/proc/thread-self/status")
_UID_MAP: Final = Path("/proc/self/uid_map")
_LOCKDOWN: Final = Path("/sys/kernel/security/lockdown")
_SELINUX: Final = Path("/sys/fs/selinux/enforce")
_UNPRIVILEGED: Final = Path("/proc/sys/kernel/unprivileged_bpf_disabled")
_ALL_USERS: Final = ["0", "0", "4294967295"]


class Obstacle(NamedTuple):
    """Something in force that may forbid bpf(2): what it is, and what to do."""

    what: str
    remedy: str


def obstacles() -> list[Obstacle]:
    """What confines the calling thread, the likeliest reason first."""
    found = []
    if _seccomp():
        found.append(
            Obstacle(
                "a seccomp filter is in force, as in containers",
                "start the container with a seccomp profile that allows bpf(2), for example "
                "docker run --security-opt seccomp=unconfined, or run netbpf on the host",
            )
        )
    if _in_user_namespace():
        found.append(
            Obstacle(
                "the capabilities are those of a user namespace, and bpf(2) asks for the host's",
                "run it outside of the user namespace (not in a rootless container or unshare -r)",
            )
        )
    level = lockdown()
    if level:
        forbidden = "bpf_probe_write_user()"
        if level == "confidentiality":
            forbidden = "reading kernel memory (bpf_probe_read_kernel() and the like) and kprobes"
        found.append(
            Obstacle(
                f"kernel lockdown is in {level} mode, which forbids {forbidden}",
                "do without that, or boot with lockdown=none and without Secure Boot",
            )
        )
    if _read(_SELINUX).strip() == "1":
        found.append(
            Obstacle(
                "SELinux enforces its policy, which has permissions for bpf(2)",
                "ausearch -m avc -ts recent shows what it denied",
            )
        )
    return found


def lockdown() -> str:
    """``integrity``, ``confidentiality``, or "" where the kernel is not locked down (kernel_lockdown(7))."""
    for word in _read(_LOCKDOWN).split():
        if word.startswith("["):
            chosen = word.strip("[]")
            return "" if chosen == "none" else chosen
    return ""


def unprivileged_bpf() -> bool:
    """Whether processes without CAP_BPF may use bpf(2), for socket filters (kernel.unprivileged_bpf_disabled)."""
    return _read(_UNPRIVILEGED).strip() == "0"


def _seccomp() -> bool:
    """Whether system calls of this thread are filtered (proc(5): Seccomp 2 is SECCOMP_MODE_FILTER)."""
    return any(line.split() == ["Seccomp:", "2"] for line in _read(_THREAD).splitlines())


def _in_user_namespace() -> bool:
    mapped = _read(_UID_MAP).split()
    return bool(mapped) and mapped != _ALL_USERS


def _read(path: Path) -> str:
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""
