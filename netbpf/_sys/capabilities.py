"""Which capabilities the process has, so that EPERM can name the one that is missing (capabilities(7))."""

from enum import IntEnum

from netbpf.errors import PermissionDeniedError


class Capability(IntEnum):
    """The capabilities netbpf may need, by their bit number (include/uapi/linux/capability.h)."""

    NET_ADMIN = 12
    NET_RAW = 13
    SYS_ADMIN = 21
    SYS_RESOURCE = 24
    SYSLOG = 34
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
    from netbpf._sys.confinement import obstacles, unprivileged_bpf  # only an error needs it

    names = [f"CAP_{capability.name}" for capability in missing(*needed)]
    if names:
        lacking = f"{' and '.join(names)} {'is' if len(names) == 1 else 'are'} missing"
        hint = (
            "run as root, or with these capabilities (for example through sudo or a systemd unit)"
        )
        if Capability.BPF in missing(*needed) and not unprivileged_bpf():
            hint += "; kernel.unprivileged_bpf_disabled forbids bpf(2) without CAP_BPF"
        return PermissionDeniedError(f"no permission to {action}: {lacking}", hint=hint)
    found = obstacles()
    if found:
        return PermissionDeniedError(
            f"no permission to {action}, though every capability it needs is there: "
            + "; and ".join(one.what for one in found),
            hint="; ".join(one.remedy for one in found),
        )
    return PermissionDeniedError(
        f"no permission to {action}, though every capability it needs is there",
        hint="a security module (AppArmor, SELinux) or the hypervisor may forbid it: "
        "dmesg and journalctl -k show what they say",
    )
