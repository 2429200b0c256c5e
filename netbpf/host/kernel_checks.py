"""The kernel: BPF at all, its types, the JIT, the file systems, what restricts bpf(2)."""

import errno
import os
import resource
import stat
from pathlib import Path
from typing import Final

from netbpf import layout
from netbpf._sys import bpf as sys_bpf
from netbpf._sys import confinement
from netbpf._sys.info import program_info
from netbpf._sys.namespaces import file_system_type
from netbpf._sys.probing import ProgramProbe
from netbpf.bpf import pin, probes
from netbpf.bpf.btf import kernel as kernel_types
from netbpf.constants import MapType, ProgType
from netbpf.errors import KernelError, NetbpfError
from netbpf.host.finding import Finding, ok, problem, warning

NET_CORE: Final = Path("/proc/sys/net/core")
TRACEFS: Final = Path("/sys/kernel/tracing")
_TRACEFS_MAGIC: Final = 0x74726163
_SMALL_LIMIT: Final = 1 << 20  # bytes of machine code: some hundred small programs
_LITTLE_MEMORY: Final = (
    64 << 20
)  # bytes that may be locked: a map of a million entries takes as much


def checks() -> list[Finding]:
    """All of them, in the order in which one needs the other."""
    return [
        kernel(), btf(), *jit(), bpffs(), tracefs(), lockdown(), *confined(), unprivileged(), memlock(),
    ]  # fmt: skip


def kernel() -> Finding:
    """The kernel, and whether it has bpf(2) at all: a program is loaded."""
    name = f"Linux {os.uname().release}, {os.uname().machine}"
    answer = ProgramProbe().ask(ProgType.SOCKET_FILTER, probes.RETURN_ONE)
    if answer.errno == errno.ENOSYS:
        return problem(
            "kernel", f"{name}: no bpf(2)", "it needs a kernel built with CONFIG_BPF_SYSCALL"
        )
    if answer.errno:
        return problem(
            "kernel", f"{name}: bpf(2) refuses a program of two instructions: {os.strerror(answer.errno)}",
            "the lines below about capabilities and restrictions say why",
        )  # fmt: skip
    return ok("kernel", f"{name}; it loads programs")


def btf() -> Finding:
    """The kernel's own types."""
    directory = kernel_types.VMLINUX.parent
    try:
        size = kernel_types.VMLINUX.stat().st_size
        modules = sum(1 for _ in directory.iterdir()) - 1
    except OSError:
        return warning(
            "BTF", f"{kernel_types.VMLINUX} is missing",
            "objects that use CO-RE or kernel functions need the kernel's types: a kernel built with "
            "CONFIG_DEBUG_INFO_BTF, or a file of them: netbpf attach --btf FILE",
        )  # fmt: skip
    also = f", and those of {modules} modules" if modules else ""
    return ok("BTF", f"the kernel tells its types ({size / 1e6:.1f} MB{also})")


# --- JIT ---


def setting(name: str, directory: Path = NET_CORE) -> int | None:
    """A number among the sysctls; None where it is not to be seen: net.core's are only in the first namespace."""
    try:
        return int((directory / name).read_text())
    except (OSError, ValueError):
        return None


def jit() -> list[Finding]:
    """Whether programs become machine code, asked with one, and what is set about it."""
    found = [_compiled()]
    hardened, names, limit = (setting(f"bpf_jit_{one}") for one in ("harden", "kallsyms", "limit"))
    if hardened is not None:
        text = f"net.core.bpf_jit_harden is {hardened}"
        found.append(
            warning(
                "JIT hardening", f"{text}: constants of all programs are blinded",
                "that costs every program some nanoseconds a packet, and hides the machine code; 1 blinds those of "
                "unprivileged processes only", "sysctl -w net.core.bpf_jit_harden=1",
            ) if hardened >= 2 else ok("JIT hardening", text)
        )  # fmt: skip
    if names is not None and not (hardened and hardened >= 2):
        text = f"net.core.bpf_jit_kallsyms is {names}"
        found.append(
            ok("JIT symbols", text)
            if names
            else warning(
                "JIT symbols", text, "perf and stack traces show addresses in place of programs' names",
                "sysctl -w net.core.bpf_jit_kallsyms=1",
            )
        )  # fmt: skip
    if limit is not None:
        text = f"{limit:,} bytes of machine code for processes without CAP_BPF"
        found.append(
            ok("JIT limit", text)
            if limit >= _SMALL_LIMIT
            else warning(
                "JIT limit", text, "beyond it their programs are interpreted, or do not load",
                "sysctl -w net.core.bpf_jit_limit=264241152",
            )
        )  # fmt: skip
    return found


def _compiled() -> Finding:
    fd, number = ProgramProbe().keep(ProgType.SOCKET_FILTER, probes.RETURN_ONE)
    enabled = setting("bpf_jit_enable")
    if fd is None:
        if enabled is None:
            return warning("JIT", f"not told: no program loads here ({os.strerror(number)})")
        size = enabled
    else:
        with fd:
            size = program_info(fd.fileno()).jited_size
    if not size or enabled == 0:
        return warning(
            "JIT", "programs are interpreted", "they take several times as long as machine code",
            "sysctl -w net.core.bpf_jit_enable=1",
        )  # fmt: skip
    if enabled == 2:
        return warning(
            "JIT", "net.core.bpf_jit_enable is 2: the kernel writes all machine code to its log",
            "that is for debugging, and slow", "sysctl -w net.core.bpf_jit_enable=1",
        )  # fmt: skip
    return ok("JIT", "programs are compiled to machine code")


# --- file systems ---


def bpffs() -> Finding:
    """Where pins can be."""
    path = layout.BPFFS
    if not pin.is_bpffs(path):
        own = layout.own_bpffs()
        meanwhile = (
            f"netbpf uses {own}"
            if pin.is_bpffs(own)
            else f"netbpf would mount one of its own at {own}"
        )
        return warning(
            "bpffs", f"none is mounted at {path}", f"other tools look for pins there; {meanwhile}",
            f"mount -t bpf bpf {path}",
        )  # fmt: skip
    if os.statvfs(path).f_flag & os.ST_RDONLY:
        return problem(
            "bpffs", f"{path} is mounted read-only", "links and maps cannot be pinned: no attach --link",
            f"mount -o remount,rw {path}",
        )  # fmt: skip
    status = path.stat()
    if status.st_mode & 0o022 and not status.st_mode & stat.S_ISVTX:
        return warning(
            "bpffs", f"{path} may be written to by others than its owner (mode {stat.S_IMODE(status.st_mode):o})",
            "they could put pins of their own in the place of somebody's", f"chmod 700 {path}",
        )  # fmt: skip
    if not os.access(path, os.W_OK):
        return problem("bpffs", f"{path} is not writable for this user", "run netbpf as root")
    if not pin.lasting(path):
        return warning(
            "bpffs", f"{path} ends with this mount namespace",
            "pins made here are gone when its last process is, as with ip netns exec: use netbpf --netns NAME outside",
        )  # fmt: skip
    return ok("bpffs", f"mounted at {path}, writable")


def tracefs() -> Finding:
    """Where bpf_printk's output comes out."""
    for path in (TRACEFS, Path("/sys/kernel/debug/tracing")):
        try:
            if file_system_type(str(path)) == _TRACEFS_MAGIC:
                return ok("tracefs", f"mounted at {path}")
        except KernelError:
            continue
    return warning(
        "tracefs", f"none is mounted at {TRACEFS}", "other tools read the output of bpf_printk() and tracepoints there",
        f"mount -t tracefs tracefs {TRACEFS}",
    )  # fmt: skip


# --- restrictions ---


def lockdown() -> Finding:
    """Kernel lockdown."""
    level = confinement.lockdown()
    if not level:
        return ok("lockdown", "none")
    found = [one for one in confinement.obstacles() if "lockdown" in one.what]
    why = f"{found[0].what}: {found[0].remedy}" if found else ""
    return (
        problem("lockdown", level, why)
        if level == "confidentiality"
        else warning("lockdown", level, why)
    )


def confined() -> list[Finding]:
    """What else keeps a process with every capability from bpf(2); nothing where it works."""
    answer = ProgramProbe().ask(ProgType.XDP, probes.RETURN_ONE)
    if answer.errno != errno.EPERM:
        return []
    return [
        problem("restriction", one.what, one.remedy)
        for one in confinement.obstacles()
        if "lockdown" not in one.what
    ]


def unprivileged() -> Finding:
    """Who may use bpf(2)."""
    found = setting("unprivileged_bpf_disabled", Path("/proc/sys/kernel"))
    name = "kernel.unprivileged_bpf_disabled"
    if found == 0:
        return warning(
            "unprivileged BPF", f"{name} is 0: every process may load socket filters",
            "the verifier is then the only guard against attacks by programs (Spectre); no part of netbpf needs it",
            f"sysctl -w {name}=2",
        )  # fmt: skip
    return ok(
        "unprivileged BPF", f"{name} is {found}" if found is not None else "not to be set here"
    )


def memlock() -> Finding:
    """RLIMIT_MEMLOCK, where the kernel still counts maps against it (before Linux 5.11)."""
    soft, hard = resource.getrlimit(resource.RLIMIT_MEMLOCK)
    if not _limits_maps(soft, hard):
        return ok("memlock", "the kernel does not count maps against it")
    if soft in (resource.RLIM_INFINITY, -1) or soft >= _LITTLE_MEMORY:
        return ok("memlock", "unlimited" if soft < 0 else f"{soft:,} bytes for maps and programs")
    return warning(
        "memlock", f"at most {soft:,} bytes for maps and programs",
        "netbpf lifts the limit where it has CAP_SYS_RESOURCE; other tools fail with EPERM", "ulimit -l unlimited",
    )  # fmt: skip


def _limits_maps(soft: int, hard: int) -> bool:
    """Asked with a limit of nothing, for the time of one map."""
    try:
        resource.setrlimit(resource.RLIMIT_MEMLOCK, (0, hard))
    except (ValueError, OSError):
        return False
    try:
        sys_bpf.map_create(MapType.ARRAY, 4, 4, 1).close()
    except NetbpfError:
        # Without the permission to make maps at all, another line says so.
        resource.setrlimit(resource.RLIMIT_MEMLOCK, (soft, hard))
        try:
            sys_bpf.map_create(MapType.ARRAY, 4, 4, 1).close()
        except NetbpfError:
            return False
        return True
    finally:
        resource.setrlimit(resource.RLIMIT_MEMLOCK, (soft, hard))
    return False
