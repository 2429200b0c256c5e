"""Putting a program on the hook that its section names, by a link that lives as long as it is held or pinned.

Every kernel has other hooks: what is not there is a NotSupportedError that says what the kernel would need.
"""

import errno
import fnmatch
import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from netbpf._sys import bpf as sys_bpf
from netbpf._sys import tracing
from netbpf._sys.capabilities import Capability, missing, permission_error
from netbpf._sys.fd import Fd
from netbpf.bpf.targets import Target, Way
from netbpf.constants import AttachType
from netbpf.errors import KernelError, NetbpfError, NotSupportedError, ObjectError, UsageError
from netbpf.text import did_you_mean, escape

_ENOTSUPP = 524  # the kernel's own ENOTSUPP (include/linux/errno.h), unknown to libc
_EVENT_SOURCES = Path("/sys/bus/event_source/devices")
_CALLS = {
    "x86_64": "__x64_sys_", "aarch64": "__arm64_sys_", "riscv64": "__riscv_sys_", "s390x": "__s390x_sys_",
    "loongarch64": "sys_", "ppc64le": "sys_",
}  # fmt: skip


_TYPED = {
    AttachType.TRACE_FENTRY: "fentry", AttachType.TRACE_FEXIT: "fexit", AttachType.MODIFY_RETURN: "fmod_ret",
    AttachType.TRACE_RAW_TP: "raw tracepoint", AttachType.LSM_MAC: "security hook",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Surroundings:
    """Where programs go whose section names no more than a kind of hook.

    ``cgroup`` is a directory of cgroup v2 (None: its root), ``netns_fd`` a network namespace.
    """

    netns_fd: int
    cgroup: Path | None = None


def where(target: Target, around: Surroundings) -> str:
    """The hook in a few words: ``tracepoint sched/sched_switch``, ``cgroup /sys/fs/cgroup``."""
    match target.way:
        case Way.CGROUP:
            return f"cgroup {around.cgroup or cgroup_root()}"
        case Way.NETNS:
            return "network namespace"
        case Way.KPROBE | Way.KPROBE_MULTI:
            kind = "kretprobe" if target.returning else "kprobe"
            return f"{kind} {target.name.replace('syscall:', 'of system call ')}"
        case Way.TYPED:
            return f"{_TYPED.get(target.attach_type, 'function')} {target.name}"
        case way:
            return f"{way} {target.name}".strip()


def attach(prog_fd: int, target: Target, around: Surroundings) -> Fd | None:
    """The link of a program on its hook; None for those that a process puts where they run.

    Raises NotSupportedError, ObjectError for a tracepoint that does not exist, PermissionDeniedError, KernelError.
    """
    if target.way is Way.HELD:
        return None
    try:
        return _attach(prog_fd, target, around)
    except KernelError as error:
        raise _explained(error, target, around) from error


def _attach(prog_fd: int, target: Target, around: Surroundings) -> Fd:
    match target.way:
        case Way.TRACEPOINT:
            number = tracepoint_id(target.name)
            with tracing.perf_event_open(tracing.PERF_TYPE_TRACEPOINT, number) as event:
                return sys_bpf.link_create(prog_fd, event.fileno(), target.attach_type)
        case Way.KPROBE:
            with _kprobe(target) as event:
                return sys_bpf.link_create(prog_fd, event.fileno(), target.attach_type)
        case Way.KPROBE_MULTI:
            symbols = _functions(target.name)
            return sys_bpf.link_create_kprobes(
                prog_fd, target.attach_type, symbols, returning=target.returning
            )
        case Way.RAW_TRACEPOINT:
            return sys_bpf.raw_tracepoint_open(prog_fd, target.name)
        case Way.TYPED:
            return sys_bpf.raw_tracepoint_open(prog_fd, None)
        case Way.ITERATOR:
            return sys_bpf.link_create(prog_fd, 0, target.attach_type)
        case Way.NETNS:
            return sys_bpf.link_create(prog_fd, around.netns_fd, target.attach_type)
        case Way.CGROUP:
            with _cgroup(around.cgroup) as directory:
                return sys_bpf.link_create(prog_fd, directory.fileno(), target.attach_type)
    raise ValueError(f"nothing attaches to a {target.way}")


# --- tracepoints ---


@contextmanager
def _tracefs() -> Iterator[int]:
    try:
        mounted = tracing.detached_mount("tracefs")
    except KernelError as error:
        if error.errno == errno.EPERM:
            raise permission_error("look up tracepoints (tracefs)", Capability.SYS_ADMIN) from None
        if error.errno in (errno.ENODEV, errno.ENOSYS):
            raise NotSupportedError(
                "this kernel has no tracefs, by which tracepoints are found (CONFIG_TRACING, Linux 5.2)"
            ) from None
        raise
    with mounted:
        yield mounted.fileno()


def _read(directory: int, path: str) -> str:
    with open(os.open(path, os.O_RDONLY | os.O_CLOEXEC, dir_fd=directory)) as file:
        return file.read()


def tracepoint_id(name: str) -> int:
    """The number of a tracepoint ``CATEGORY/NAME``; ObjectError with near names where there is none."""
    with _tracefs() as root:
        parts = name.split("/")
        if len(parts) == 2 and not {"", ".", ".."} & set(parts) and "\0" not in name:
            try:
                return int(_read(root, f"events/{name}/id"))
            except OSError as error:
                if error.errno not in (errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG):
                    raise NetbpfError(
                        f"cannot look up tracepoint {escape(name)}: {error.strerror}"
                    ) from None
        known = [line.strip().replace(":", "/") for line in _lines(root, "available_events")]
    raise NotSupportedError(
        f"this kernel has no tracepoint {escape(name)}",
        hint=did_you_mean(name, known, "") or "it may be called otherwise here, or be in a module",
    )


def _lines(root: int, path: str) -> list[str]:
    try:
        return _read(root, path).splitlines()
    except OSError:
        return []


# --- kprobes ---


def _kprobe(target: Target) -> Fd:
    source = _EVENT_SOURCES / "kprobe"
    try:
        kind = int((source / "type").read_text())
        # "config:0": the bit that makes it a probe of the return.
        bit = int((source / "format" / "retprobe").read_text().rpartition(":")[2])
    except (OSError, ValueError):
        raise NotSupportedError(
            "this kernel has no kprobes",
            hint="it would need CONFIG_KPROBE_EVENTS; a tracepoint or a raw tracepoint may do instead",
        ) from None
    name, offset = _symbol(target.name)
    try:
        return tracing.perf_event_open(
            kind, 1 << bit if target.returning else 0, name=name, offset=offset
        )
    except KernelError as error:
        if error.errno in (errno.ENOENT, errno.EADDRNOTAVAIL, errno.EINVAL):
            raise NotSupportedError(
                f"this kernel cannot probe {escape(name)}",
                hint="it may be called otherwise here, be inlined, or be forbidden to probes",
            ) from None
        raise


def _symbol(text: str) -> tuple[str, int]:
    if text.startswith("syscall:"):
        return _CALLS.get(platform.machine(), "sys_") + text.removeprefix("syscall:"), 0
    name, plus, offset = text.partition("+")
    try:
        return name, int(offset, 0) if plus else 0
    except ValueError:
        raise ObjectError(f"{escape(text)} is no function with an offset, as NAME+0x10") from None


def _functions(pattern: str) -> tuple[str, ...]:
    """The functions that a pattern of kprobe.multi means."""
    if not set(pattern) & set("*?["):
        return (pattern,)
    with _tracefs() as root:
        known = {line.split()[0] for line in _lines(root, "available_filter_functions") if line}
    found = tuple(sorted(fnmatch.filter(known, pattern)))
    if not found:
        raise NotSupportedError(f"this kernel has no function {escape(pattern)} that can be probed")
    return found


# --- cgroups ---


def cgroup_root() -> Path:
    """Where cgroup v2 is mounted; NotSupportedError where it is not."""
    with open("/proc/thread-self/mountinfo", errors="surrogateescape") as lines:
        for line in lines:
            fields, _, rest = line.partition(" - ")
            if rest.split(" ", 1)[0] == "cgroup2":
                return Path(fields.split(" ")[4])
    raise NotSupportedError(
        "no cgroup v2 is mounted here",
        hint="mount -t cgroup2 cgroup2 /sys/fs/cgroup, or name a directory of one with --cgroup",
    )


def _cgroup(path: Path | None) -> Fd:
    directory = path or cgroup_root()
    try:
        return Fd(os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC))
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else "its name has a NUL byte"
        raise UsageError(f"--cgroup {escape(str(directory))}: {why}") from None


# --- errors ---


def _explained(error: KernelError, target: Target, around: Surroundings) -> NetbpfError:
    hook = escape(where(target, around))
    if target.way is Way.CGROUP and error.errno == errno.EBADF:
        return UsageError(
            f"{escape(str(around.cgroup))} is no directory of cgroup v2",
            hint="findmnt -t cgroup2 shows where one is",
        )
    if target.way is Way.RAW_TRACEPOINT and error.errno == errno.ENOENT:
        return NotSupportedError(
            f"this kernel has no {hook}",
            hint="raw_tp/NAME takes the name alone, without the category: raw_tp/sched_switch",
        )
    if target.way is Way.NETNS and error.errno in (errno.EEXIST, errno.E2BIG):
        return NetbpfError(f"there is a program of this kind on the {hook} already")
    if error.errno == errno.EPERM and (
        lacking := missing(Capability.BPF, Capability.PERFMON, Capability.NET_ADMIN)
    ):
        return permission_error(f"attach to {hook}", *lacking)
    if error.errno in (
        errno.EPERM,
        errno.EACCES,
        errno.ENOSYS,
        errno.EOPNOTSUPP,
        errno.EINVAL,
        errno.ENOENT,
        errno.EBUSY,
        errno.ESRCH,
        _ENOTSUPP,
    ):
        return NotSupportedError(
            f"this kernel does not attach programs to {hook}: {error.message}",
            hint=_NEEDS.get(target.way),
        )
    return error


_NEEDS = {
    Way.TYPED: "it needs CONFIG_DYNAMIC_FTRACE_WITH_DIRECT_CALLS and a processor with BPF trampolines; "
    "security hooks need bpf among the modules of lsm=",
    Way.KPROBE: "kprobes may be switched off, or forbidden by lockdown",
    Way.KPROBE_MULTI: "it needs CONFIG_FPROBE (Linux 5.18)",
    Way.TRACEPOINT: "links on performance events need Linux 5.15",
    Way.CGROUP: "it needs CONFIG_CGROUP_BPF, and the hook may be newer than this kernel",
    Way.NETNS: "it needs Linux 5.7, programs of sk_lookup 5.9",
    Way.ITERATOR: "iterators need Linux 5.8",
}
