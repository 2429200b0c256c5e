"""A private cache of compiled objects, so that attaching a C source twice compiles it once.

An entry belongs to one source (path and content), one compiler and its flags. Beside the object lies a manifest of
every header that was included, so a hit is decided by looking at files, and no compiler runs.

The directory is ours alone (0700): what it holds is loaded into the kernel. Writers race safely, since each writes
a file of its own and renames it.
"""

import hashlib
import json
import os
import stat
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from netbpf.compiler.headers import kernel_tree
from netbpf.compiler.manifest import File, absent_candidates, describe, unchanged
from netbpf.compiler.output import write_atomically
from netbpf.compiler.result import Compiled, CompileResult, Options, StrPath
from netbpf.compiler.source import check, read_source, wants_bcc
from netbpf.compiler.toolchain import clang_flags, find_clang, find_library
from netbpf.errors import NetbpfError
from netbpf.text import escape

MAX_ENTRIES = 256
MAX_BYTES = 64 << 20
_STALE_SECONDS = 3600  # a temporary file this old belongs to a writer that was killed
# What clang reads from the environment besides its arguments.
_ENVIRONMENT = (
    "CPATH",
    "C_INCLUDE_PATH",
    "CCC_OVERRIDE_OPTIONS",
    "ARCH",
    "BCC_KERNEL_SOURCE",
    "BCC_LINUX_VERSION_CODE",
)


def cache_directory() -> Path:
    """Where the cache is: $NETBPF_CACHE_DIR, else /var/cache/netbpf for root and ``netbpf`` in the user's own cache."""
    named = os.environ.get("NETBPF_CACHE_DIR")
    if named:
        return Path(named).absolute()
    if os.geteuid() == 0:
        return Path("/var/cache/netbpf")
    home = os.environ.get("XDG_CACHE_HOME", "")
    return (Path(home) if home.startswith("/") else Path("~/.cache").expanduser()) / "netbpf"


def cached_object(source: StrPath, options: Options | None = None) -> CompileResult:
    """The object of a source, compiled only where the cache does not have it; ``output`` is its path there.

    The object stays until newer ones push it out. Raises what ``compile_sources`` raises, and NetbpfError where the
    cache's directory is not safe to use or cannot be written.
    """
    start = time.perf_counter()
    options = options or Options()
    check(options)
    name = os.fspath(source)
    content = read_source(name)
    directory = _private(cache_directory())
    key = _key(name, content, options)
    target, manifest = directory / f"{key}.o", directory / f"{key}.json"
    found = _lookup(target, manifest)
    if found is not None:
        size, kept = found
        return CompileResult(
            Path(name),
            target,
            kept["compiler"],
            kept["frontend"],
            size,
            time.perf_counter() - start,
            cached=True,
        )
    from netbpf.compiler.compile import (
        compile_in_memory,
    )  # what runs compilers, which a hit does without

    began = time.time_ns()
    made = compile_in_memory(name, content, options)
    _store(target, manifest, made, _search_path(name, options), name, began)
    _prune(directory, keep=key)
    return CompileResult(
        Path(name), target, made.compiler, made.frontend, len(made.object), time.perf_counter() - start,
        made.warnings, made.notes,
    )  # fmt: skip


# --- the directory ---


def _private(directory: Path) -> Path:
    """The directory, made where it is missing. NetbpfError where others could put something into it."""
    hint = "name another one with NETBPF_CACHE_DIR"
    shown = escape(str(directory))
    try:
        for path, mode in ((directory.parent, 0o777), (directory, 0o700)):
            # A file or a dangling link may be in the way; what follows tells better than "File exists".
            with suppress(FileExistsError):
                path.mkdir(mode, parents=True)
        status, parent = directory.lstat(), directory.parent.stat()
    except OSError as error:
        raise NetbpfError(f"cannot use the cache {shown}: {error.strerror}", hint=hint) from None
    if not stat.S_ISDIR(status.st_mode):
        kind = "a symbolic link" if stat.S_ISLNK(status.st_mode) else "no directory"
        raise NetbpfError(f"the cache {shown} is {kind}, and is not used", hint=hint)
    if status.st_uid != os.geteuid():
        raise NetbpfError(
            f"the cache {shown} belongs to user {status.st_uid}, and is not used", hint=hint
        )
    if status.st_mode & 0o077:
        mode = stat.S_IMODE(status.st_mode)
        raise NetbpfError(
            f"the cache {shown} is open to others (mode {mode:04o})",
            hint=f"chmod 700 {shown}, or {hint}",
        )
    if parent.st_mode & stat.S_IWOTH and not parent.st_mode & stat.S_ISVTX:
        raise NetbpfError(
            f"anyone could replace the cache {shown}: its parent is writable by all", hint=hint
        )
    return directory


def _prune(directory: Path, keep: str) -> None:
    """Remove the entries that were used longest ago until the rest fit, and what killed writers left."""
    entries: dict[str, tuple[int, int]] = {}
    for entry in os.scandir(directory):
        try:
            status = entry.stat(follow_symlinks=False)
            if entry.name.startswith(".netbpf-"):
                if status.st_mtime < time.time() - _STALE_SECONDS:
                    os.unlink(entry)  # noqa: PTH108
                continue
        except FileNotFoundError:
            continue  # another writer was faster
        key = entry.name.partition(".")[0]
        used, size = entries.get(key, (0, 0))
        entries[key] = max(used, status.st_mtime_ns), size + status.st_size
    total = sum(size for _, size in entries.values())
    count = len(entries)
    for key, (_, size) in sorted(entries.items(), key=lambda item: item[1]):
        if count <= MAX_ENTRIES and total <= MAX_BYTES:
            break
        if key == keep:
            continue
        (directory / f"{key}.json").unlink(missing_ok=True)
        (directory / f"{key}.o").unlink(missing_ok=True)
        count, total = count - 1, total - size


# --- entries ---


def _key(name: str, content: bytes, options: Options) -> str:
    bcc = wants_bcc(content, options)
    if bcc:
        tree = kernel_tree()
        compiler = [
            *_identity(find_library()),
            *_identity(tree.build / "include/generated/autoconf.h"),
            str(tree.source),
        ]
        flags = [f"-D{one}" for one in options.defines] + [
            f"-I{one}" for one in options.include_dirs
        ]
    else:
        compiler = _identity(find_clang(options.clang))
        flags = clang_flags(options)
    # Objects that another version of netbpf made are others, even of the same compiler.
    own = sorted(
        (one.name, one.stat().st_mtime_ns)
        for one in os.scandir(Path(__file__).parent)
        if one.is_file()
    )
    parts = [
        os.path.abspath(name), name, hashlib.sha256(content).hexdigest(),  # noqa: PTH100 - as it stands, no links followed
        bcc, compiler, flags, [os.path.abspath(one) for one in options.include_dirs],  # noqa: PTH100
        [os.environ.get(one) for one in _ENVIRONMENT], own,
    ]  # fmt: skip
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:40]


def _identity(path: Path) -> list[Any]:
    real = path.resolve()
    status = real.stat()
    return [str(path), str(real), status.st_size, status.st_mtime_ns]


def _lookup(target: Path, manifest: Path) -> tuple[int, dict[str, Any]] | None:
    try:
        kept = json.loads(manifest.read_bytes())
        data = target.read_bytes()
        intact = hashlib.sha256(data).hexdigest() == kept["sha256"]
        if not intact or not unchanged([File(*one) for one in kept["files"]], kept["absent"]):
            return None
        os.utime(manifest)
    except (OSError, ValueError, KeyError, TypeError):
        return None  # not there, or not what was written: compile again
    return len(data), kept


def _store(
    target: Path, manifest: Path, made: Compiled, search: list[str], name: str, began: int
) -> None:
    # The old manifest must not vouch for the new object.
    manifest.unlink(missing_ok=True)
    write_atomically(target, made.object, 0o600)
    files = None if made.headers is None else describe(made.headers, began)
    if files is None:
        return  # something changed meanwhile, or cannot be watched: the next time compiles again
    kept = {
        "source": name,
        "sha256": hashlib.sha256(made.object).hexdigest(),
        "compiler": made.compiler,
        "frontend": made.frontend,
        "files": files,
        "absent": absent_candidates(made.headers or (), search),
    }
    write_atomically(manifest, json.dumps(kept).encode(), 0o600)


def _search_path(name: str, options: Options) -> list[str]:
    return [os.path.abspath(one) for one in (os.path.dirname(name) or ".", *options.include_dirs)]  # noqa: PTH100, PTH120
