"""What compiles programs: clang, libbpf's headers, BCC. Nothing of it is needed to attach objects."""

import os
import re
import subprocess
from pathlib import Path
from typing import Final

from netbpf.compiler import toolchain
from netbpf.compiler.headers import kernel_tree
from netbpf.errors import ToolMissingError
from netbpf.host.finding import Finding, ok, warning
from netbpf.text import escape

HELPERS: Final = ("/usr/include/bpf/bpf_helpers.h", "/usr/local/include/bpf/bpf_helpers.h")
_SECONDS: Final = 20.0  # for a tool to tell its version
_PYTHONS: Final = ("/usr/bin/python3", "python3")


def checks() -> list[Finding]:
    """All of them."""
    return [clang(), libbpf(), bcc(), *bcc_headers(), bpftool()]


def install(debian: str, fedora: str) -> str:
    """The command that installs a package here."""
    if toolchain.find("apt") is None and toolchain.find("dnf") is not None:
        return f"dnf install {fedora}"
    return f"apt install {debian}"


def said(*command: str) -> str | None:
    """What a program prints, None where it cannot be started, fails or does not end."""
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, timeout=_SECONDS, check=False,
            env={**os.environ, "LC_ALL": "C"},
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.decode(errors="backslashreplace") if done.returncode == 0 else None


def clang() -> Finding:
    """The clang that netbpf would use: its version, and whether it makes BPF code."""
    compiler = install("clang", "clang")
    try:
        path = toolchain.find_clang()
    except ToolMissingError as error:
        why = "C sources (netbpf compile, attach prog.c) need it; objects do not"
        return warning("clang", escape(error.message), why, compiler)
    version = said(str(path), "--version") or ""
    match = re.search(r"clang version (\d+)(\S*)", version)
    if match is None:
        return warning("clang", f"{path} does not tell its version", "it does not work", compiler)
    if int(match[1]) < toolchain.OLDEST:
        return warning("clang", toolchain.too_old(path, int(match[1])), "", compiler)
    if not re.search(r"^\s*bpf\s", said(str(path), "--print-targets") or "", re.MULTILINE):
        return warning("clang", f"{path} has no target bpf", "it was built without", compiler)
    others = sorted({one for one in _clangs() if one != path})
    also = f"; also {', '.join(map(str, others))}" if others else ""
    return ok("clang", f"{match[1]}{match[2]}, {path}, target bpf{also}")


def _clangs() -> list[Path]:
    names = ["clang", *(f"clang-{number}" for number in range(toolchain.OLDEST, 40))]
    return [path for name in names if (path := toolchain.find(name))]


def libbpf() -> Finding:
    """<bpf/bpf_helpers.h>, which most sources include."""
    for name in HELPERS:
        path = Path(name)
        if path.exists():
            return ok("libbpf headers", f"{_libbpf_version(path.parent)}{path.parent}")
    return warning(
        "libbpf headers", "<bpf/bpf_helpers.h> is not installed", "most C sources of BPF programs include it",
        install("libbpf-dev", "libbpf-devel"),
    )  # fmt: skip


def _libbpf_version(directory: Path) -> str:
    try:
        text = (directory / "libbpf_version.h").read_text(errors="replace")
    except OSError:
        return ""
    numbers = re.findall(r"LIBBPF_(?:MAJOR|MINOR)_VERSION (\d+)", text)
    return f"{'.'.join(numbers)}, " if numbers else ""


def bcc() -> Finding:
    """BCC's library, and the Python that imports its package. The package ``bcc`` of PyPI is something else."""
    packages = install("python3-bpfcc", "python3-bcc")
    why = "only sources written for BCC need it"
    try:
        library = toolchain.find_library()
    except ToolMissingError:
        return warning("BCC", "not installed", why, packages)
    for python in _PYTHONS:
        version = said(python, "-I", "-c", "import bcc; bcc.BPF; print(bcc.__version__)")
        if version:
            return ok("BCC", f"{escape(version.strip())}, imported by {python}; {library}")
    return warning("BCC", f"{library} is there, but no Python imports bcc", why, packages)


def bcc_headers() -> list[Finding]:
    """The kernel's headers that BCC compiles against; nothing where BCC is not installed."""
    try:
        toolchain.find_library()
    except ToolMissingError:
        return []
    try:
        tree = kernel_tree()
    except ToolMissingError as error:
        words = (error.hint or "").partition("install them: ")[2].partition(" or ")[0]
        return [
            warning(
                "BCC kernel headers", error.message, error.hint or "", *([words] if words else [])
            )
        ]
    text = f"of Linux {escape(tree.release)}, {tree.build}"
    if tree.release != os.uname().release:
        text += "; not of the kernel that runs, which XDP and TC programs do not mind"
    return [ok("BCC kernel headers", text)]


def bpftool() -> Finding:
    """Whether bpftool is there; netbpf itself needs it for nothing."""
    path = toolchain.find("bpftool")
    if path is None:
        return ok("bpftool", "not installed; nothing needs it")
    return ok("bpftool", f"{path}; nothing needs it")
