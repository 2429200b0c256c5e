"""Which compilers there are and how they are called. Cheap: a cache hit asks this and starts nothing."""

import os
import re
from pathlib import Path

from netbpf.compiler.headers import COMPAT, OWN, multiarch, target_arch
from netbpf.compiler.result import Options
from netbpf.errors import ToolMissingError
from netbpf.text import escape

OLDEST = 14
INSTALL_CLANG = "install it: apt install clang (Fedora: dnf install clang)"
INSTALL_BCC = "install it: apt install python3-bpfcc (Fedora: dnf install python3-bcc)"
_NUMBERED = re.compile(r"clang-(\d+)")
_LIBBCC = "libbcc.so.0"


def argument(path: str) -> str:
    """A path that no command line takes for an option (``-x``), standard input (``-``) or a response file (``@x``)."""
    return f"./{path}" if path[:1] in ("-", "@") else path


def find(name: str) -> Path | None:
    """An executable by path or along PATH."""
    if "/" in name:
        return Path(name) if os.access(name, os.X_OK) and Path(name).is_file() else None
    for directory in os.get_exec_path():
        path = Path(directory, name)
        if os.access(path, os.X_OK) and path.is_file():
            return path
    return None


def find_clang(wanted: str | None = None) -> Path:
    """The clang to use: ``wanted``, else $NETBPF_CLANG, else the newest ``clang-N`` along PATH, else ``clang``.

    Raises ToolMissingError where there is none.
    """
    name, origin = (
        (wanted, "") if wanted else (os.environ.get("NETBPF_CLANG"), " (from $NETBPF_CLANG)")
    )
    if name:
        named = find(name)
        if named is None:
            raise ToolMissingError(f"no such compiler: {escape(name)}{origin}", hint=INSTALL_CLANG)
        return named
    found = max(_installed(), default=None)
    if found is not None and found[0] >= OLDEST:
        return found[1]
    plain = find("clang")
    if plain is not None:
        return plain
    if found is not None:
        raise ToolMissingError(too_old(found[1], found[0]), hint=INSTALL_CLANG)
    raise ToolMissingError(
        "clang is not installed, and compiling BPF programs needs it", hint=INSTALL_CLANG
    )


def _installed() -> list[tuple[int, Path]]:
    found = []
    for directory in os.get_exec_path():
        try:
            names = os.listdir(directory)
        except OSError:
            continue
        for name in names:
            match = _NUMBERED.fullmatch(name)
            if match and (path := find(os.path.join(directory, name))):  # noqa: PTH118
                found.append((int(match[1]), path))
    return found


def too_old(path: Path, version: int) -> str:
    """The message about a clang that is too old."""
    return f"{path} is clang {version}; netbpf needs clang {OLDEST} or newer"


def clang_flags(options: Options) -> list[str]:
    """What clang is called with for every source, without the paths of input and output."""
    machine = multiarch()
    return [
        "-O2",
        "-g",  # BTF is made from debug information
        "-target", "bpf",
        "-mcpu=v3",  # 32-bit operations and jumps, Linux 5.1: fewer instructions, and ranges the verifier can follow
        "-fno-stack-protector",  # some distributions turn it on, and BPF has none
        "-ffile-compilation-dir=.",  # line information names the source as it was named here, on every machine alike
        "-fcolor-diagnostics" if options.color else "-fno-color-diagnostics",
        f"-D__TARGET_ARCH_{target_arch()}",
        *(f"-D{define}" for define in options.defines),
        *(f"-I{directory}" for directory in options.include_dirs),
        "-isystem", str(OWN),
        *(("-idirafter", str(machine)) if machine else ()),
        "-idirafter", str(COMPAT),
        "-x", "c",
    ]  # fmt: skip


def find_library() -> Path:
    """BCC's library: $NETBPF_LIBBCC, else where libraries are. Raises ToolMissingError where it is not installed."""
    named = os.environ.get("NETBPF_LIBBCC")
    if named:
        if not Path(named).is_file():
            raise ToolMissingError(
                f"no such library: {escape(named)} (from $NETBPF_LIBBCC)", hint=INSTALL_BCC
            )
        return Path(named).absolute()  # a bare name would be looked up where libraries are
    machine = f"{os.uname().machine}-linux-gnu"
    for directory in (f"/usr/lib/{machine}", "/usr/lib64", "/usr/lib", f"/usr/local/lib/{machine}",
                      "/usr/local/lib64", "/usr/local/lib"):  # fmt: skip
        path = Path(directory, _LIBBCC)
        if path.is_file():
            return path
    raise ToolMissingError(
        "BCC is not installed, and this source is written for it", hint=INSTALL_BCC
    )
