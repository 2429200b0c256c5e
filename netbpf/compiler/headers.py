"""Where C headers are, and which package brings those that are missing."""

import os
import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from netbpf.errors import ToolMissingError

_PACKAGE = Path(__file__).parent
OWN = _PACKAGE.parent / "include"  # <netbpf/...>
# Empty stand-ins for headers that glibc includes for a machine that BPF is not (see the files).
COMPAT = _PACKAGE / "compat"

_MISSING = re.compile(r"fatal error: '([^'\n]+)' file not found")
# First part of a header's path: a header that is there with its package, Debian's package, Fedora's.
_PACKAGES = {
    "bpf": ("bpf/bpf_helpers.h", "libbpf-dev", "libbpf-devel"),
    "linux": ("linux/bpf.h", "linux-libc-dev", "kernel-headers"),
    "asm": ("linux/bpf.h", "linux-libc-dev", "kernel-headers"),
    "asm-generic": ("linux/bpf.h", "linux-libc-dev", "kernel-headers"),
    "xdp": ("xdp/xdp_helpers.h", "libxdp-dev", "libxdp-devel"),
}
_LIBC = ("stdlib.h", "libc6-dev", "glibc-devel")
_LIBC_HEADERS = frozenset(
    {
        "features.h",
        "stdlib.h",
        "string.h",
        "errno.h",
        "stdint.h",
        "sys",
        "netinet",
        "arpa",
        "bits",
        "gnu",
    }
)


# Headers of the kernel's own code that people include out of habit; none is among those for user space.
_KERNEL_INSIDE = frozenset(
    f"linux/{name}.h"
    for name in (
        "skbuff", "netdevice", "filter", "kernel", "module", "slab", "sched", "fs", "mm_types", "ktime", "init",
        "inetdevice", "etherdevice", "kconfig", "compiler", "printk",
    )
)  # fmt: skip
_INSIDE = (
    "it is a header of the kernel's own code: take the types from vmlinux.h (bpftool btf dump file "
    "/sys/kernel/btf/vmlinux format c > vmlinux.h), or write it for BCC: --frontend bcc"
)


def target_arch() -> str:
    """The kernel's name of this architecture, as ``__TARGET_ARCH_...`` of <bpf/bpf_tracing.h> wants it."""
    machine = os.uname().machine
    for pattern, name in (
        (r"x86_64|i.86", "x86"), (r"aarch64", "arm64"), (r"arm", "arm"), (r"ppc", "powerpc"), (r"s390", "s390"),
        (r"riscv", "riscv"), (r"loongarch", "loongarch"), (r"mips", "mips"), (r"sparc", "sparc"),
    ):  # fmt: skip
        if re.match(pattern, machine):
            return name
    return machine


@cache
def multiarch() -> Path | None:
    """Debian's directory of this machine's headers, where <asm/types.h> is; None where there is no such thing.

    ``clang -target bpf`` looks in /usr/include alone.
    """
    machine = {"armv7l": "arm", "i686": "i386"}.get(os.uname().machine, os.uname().machine)
    found = sorted(Path("/usr/include").glob(f"{machine}-linux-gnu*/asm/types.h"))
    return found[0].parents[1] if found else None


def missing_header(output: str) -> str | None:
    """What to do about the header that a compiler did not find, or None where its output tells of none."""
    match = _MISSING.search(output)
    if not match:
        return None
    header = match[1]
    first = header.partition("/")[0]
    if header.endswith("vmlinux.h"):
        return (
            "make it from the running kernel's types: "
            "bpftool btf dump file /sys/kernel/btf/vmlinux format c > vmlinux.h"
        )
    if header.startswith("bpf_") and header.endswith(".h"):
        return (
            f"write <bpf/{header}>"
            if _installed("bpf/bpf_helpers.h")
            else _install("libbpf-dev", "libbpf-devel")
        )
    witness, debian, fedora = _PACKAGES.get(first, _LIBC)
    if first in _PACKAGES or first in _LIBC_HEADERS:
        # A witness that is there means the name is wrong, or too new, and no package would help.
        if _installed(witness):
            return _INSIDE if header in _KERNEL_INSIDE else None
        return _install(debian, fedora)
    if first == "net":
        return _INSIDE
    return f"name the directory that holds {header} with -I DIR"


def _installed(header: str) -> bool:
    machine = multiarch()
    places = [Path("/usr/include"), Path("/usr/local/include"), *([machine] if machine else [])]
    return any((place / header).exists() for place in places)


def _install(debian: str, fedora: str) -> str:
    return f"install it: apt install {debian} (Fedora: dnf install {fedora})"


@dataclass(frozen=True, slots=True)
class KernelTree:
    """The headers BCC compiles against. Debian splits them: ``build`` has the generated ones, ``source`` the rest."""

    release: str
    build: Path
    source: Path

    def include_flags(self) -> list[str]:
        """The flags that BCC lacks when it is told of ``source`` alone."""
        arch = f"arch/{target_arch()}/include"
        parts = (
            arch,
            f"{arch}/generated/uapi",
            f"{arch}/generated",
            "include",
            "include/generated/uapi",
        )
        return [] if self.build == self.source else [f"-I{self.build / part}" for part in parts]


def kernel_tree() -> KernelTree:
    """The running kernel's headers, else the newest that are installed.

    XDP and TC programs see only the kernel's stable interface, which any later kernel keeps, so headers of another
    release do. ``BCC_KERNEL_SOURCE`` names a tree as it does for BCC itself. Raises ToolMissingError where there
    are none.
    """
    running = os.uname().release
    named = os.environ.get("BCC_KERNEL_SOURCE")
    if named:
        tree = _tree(Path(named).name, Path(named))
        if tree:
            return tree
        raise ToolMissingError(f"BCC_KERNEL_SOURCE={named} is no tree of kernel headers")
    own = _tree(running, Path("/lib/modules", running, "build"))
    if own:
        return own
    found = [
        tree
        for path in (
            *Path("/lib/modules").glob("*/build"),
            *Path("/usr/src").glob("linux-headers-*"),
        )
        if (
            tree := _tree(
                path.parent.name
                if path.name == "build"
                else path.name.removeprefix("linux-headers-"),
                path,
            )
        )
    ]
    if found:
        return max(
            found, key=lambda tree: [int(part) for part in re.findall(r"\d+", tree.release)[:4]]
        )
    raise ToolMissingError(
        "BCC needs the kernel's headers, and none are installed",
        hint=f"install them: apt install linux-headers-{running} or linux-headers-{_flavour()} "
        "(Fedora: dnf install kernel-devel)",
    )


def _flavour() -> str:
    machine = {"x86_64": "amd64", "aarch64": "arm64"}.get(os.uname().machine, "generic")
    return f"cloud-{machine}" if "cloud" in os.uname().release else machine


def _tree(release: str, build: Path) -> KernelTree | None:
    if not (build / "include/generated/autoconf.h").exists():
        return None
    beside, build = build.parent / "source", build.resolve()
    if (build / "include/linux/kconfig.h").exists():
        return KernelTree(release, build, build)
    # Debian's build tree has a Makefile of one line that includes that of the other.
    makefile = build / "Makefile"
    text = makefile.read_text(errors="replace")[:4096] if makefile.exists() else ""
    match = re.search(r"^include\s+(/\S+)/Makefile\s*$", text, re.MULTILINE)
    for source in (beside, *([Path(match[1])] if match else [])):
        if (source / "include/linux/kconfig.h").exists():
            return KernelTree(release, build, source.resolve())
    return None
