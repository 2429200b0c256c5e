"""Which capabilities the process has, so that EPERM can name the one that is missing (capabilities(7))."""

from enum import IntEnum

from netbpf.errors import PermissionDeniedError


class Capability(IntEnum):
    """The capabilities netbpf may need, by their bit number (include/uapi/linux/capability.h)."""

    NET_ADMIN = 12
    NET_RAW = 13
    SYS_ADMIN = 21
    PERFMON = 38
    BPF = 39


def effective() -> int:
    """The effective capability set of the calling thread as a bit mask."""
    with open("/proc/thread-self/status") as status:
        for line in status:
            if line.startswith("CapEff:"):
                return int(line.split()[1], 16)
    return 0


def missing(*needed: Capability) -> list[Capability]:
    """Those of ``needed`` the thread lacks. CAP_SYS_ADMIN stands in for CAP_BPF and CAP_PERFMON (capabilities(7))."""
    have = effective()

    def has(capability: Capability) -> bool:
        if have >> capability & 1:
            return True
        return capability in (Capability.BPF, Capability.PERFMON) and bool(
            have >> Capability.SYS_ADMIN & 1
        )

    return [capability for capability in needed if not has(capability)]


def permission_error(action: str, *needed: Capability) -> PermissionDeniedError:
    """The error for an EPERM while doing ``action``, naming which of ``needed`` is missing."""
    names = [f"CAP_{capability.name}" for capability in missing(*needed)]
    if names:
        lacking = " and ".join(names)
        return PermissionDeniedError(
            f"no permission to {action}: {lacking} is missing" if len(names) == 1
            else f"no permission to {action}: {lacking} are missing",
            hint="run as root, or with these capabilities (for example through sudo or a systemd unit)",
        )  # fmt: skip
    return PermissionDeniedError(
        f"no permission to {action}, though every capability it needs is there",
        hint="a container's seccomp filter, a security module or kernel lockdown may forbid bpf(2)",
    )
