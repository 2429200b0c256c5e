"""What a test needs of the machine, and the words that say which part of it is missing.

A requirement is tried out where it can be, not guessed from a version: ``xdp-native`` attaches a program.
"""

import functools
import importlib.util
import os
import platform
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Final

from netns_fixtures.kinds import KINDS

# include/uapi/linux/capability.h
_CAPABILITIES: Final = {
    "CAP_NET_ADMIN": 12, "CAP_NET_RAW": 13, "CAP_SYS_ADMIN": 21, "CAP_SYS_RESOURCE": 24, "CAP_PERFMON": 38,
    "CAP_BPF": 39,
}  # fmt: skip
_LINUX: Final = re.compile(r"linux>=(\d+)\.(\d+)")
WORDS: Final = (
    "root", "namespaces", "ipv6", "btf", *_CAPABILITIES, *KINDS, "linux>=X.Y", "tool:NAME", "module:NAME",
)  # fmt: skip


def known(word: str) -> bool:
    """Whether this is a requirement at all."""
    simple = word in _PROBES or word in _CAPABILITIES or word in KINDS
    named = word.partition(":")[0] in ("tool", "module") and word.partition(":")[2] != ""
    return simple or named or _LINUX.fullmatch(word) is not None


@functools.cache
def missing(word: str) -> str | None:
    """Why ``word`` is not met here, None if it is; found out once per process. ValueError for an unknown word.

    Errors that do not mean "this machine cannot" are raised: a skip must not hide a mistake.
    """
    if word in _PROBES:
        return _PROBES[word]()
    if word in _CAPABILITIES:
        return None if _effective() >> _CAPABILITIES[word] & 1 else f"{word} is missing"
    if word in KINDS:
        return _attaching(word) if KINDS[word].on_wire else _running(word)
    if match := _LINUX.fullmatch(word):
        return _linux(int(match[1]), int(match[2]))
    kind, _, name = word.partition(":")
    if kind == "tool" and name:
        return None if shutil.which(name) else f"{name} is not installed, or not in PATH"
    if kind == "module" and name:
        return None if importlib.util.find_spec(name) else f"Python module {name} is not installed"
    raise ValueError(f"no requirement {word!r}; there are {', '.join(WORDS)}")


def _effective() -> int:
    for line in Path("/proc/thread-self/status").read_text().splitlines():
        if line.startswith("CapEff:"):
            return int(line.split()[1], 16)
    return 0


def _linux(major: int, minor: int) -> str | None:
    release = platform.release()
    parts = re.match(r"(\d+)\.(\d+)", release)
    if parts and (int(parts[1]), int(parts[2])) >= (major, minor):
        return None
    return f"Linux {major}.{minor} is needed, this is {release}"


def _root() -> str | None:
    return None if os.geteuid() == 0 else f"root is needed, this is user {os.geteuid()}"


def _btf() -> str | None:
    path = Path("/sys/kernel/btf/vmlinux")
    return None if path.exists() else f"the kernel has no BTF: no {path}"


def _ipv6() -> str | None:
    return None if Path("/proc/sys/net/ipv6").exists() else "the kernel has no IPv6"


def _namespaces() -> str | None:
    from netbpf.errors import KernelError, PermissionDeniedError
    from netbpf.net.netns import Namespace

    try:
        Namespace.create().close()
    except PermissionDeniedError as error:
        return error.message
    except KernelError as error:
        return f"no network namespaces here: {error.message}"
    return None


def _attaching(word: str) -> str | None:
    """Attach a program in a namespace of its own."""
    from netbpf.errors import NotSupportedError, PermissionDeniedError
    from netns_fixtures.programs import attach_pass
    from netns_fixtures.topology import Topology

    if reason := missing("namespaces"):
        return reason
    try:
        with Topology() as topology:
            attach_pass(topology.wire().dut, KINDS[word]).close()
    except (NotSupportedError, PermissionDeniedError) as error:
        return f"{word}: {error.message}"
    return None


def _running(word: str) -> str | None:
    """Run a program on a packet."""
    from netbpf.errors import NotSupportedError, PermissionDeniedError
    from netbpf.packets.testrun import Bench
    from netns_fixtures.programs import pass_object

    try:
        with Bench.open(pass_object(KINDS[word].family)) as bench:
            bench.run(bytes(60))
    except (NotSupportedError, PermissionDeniedError) as error:
        return f"{word}: {error.message}"
    return None


_PROBES: Final[dict[str, Callable[[], str | None]]] = {
    "root": _root,
    "namespaces": _namespaces,
    "ipv6": _ipv6,
    "btf": _btf,
}
