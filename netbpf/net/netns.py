"""Network namespaces: open, create and list them, and run a function inside one.

A namespace is always held by a descriptor, never by its name alone, so it stays the same one while netbpf works
on it. Entering happens in a thread of its own that is thrown away afterwards: setns(2) moves only the calling
thread (man 2 setns), so no other thread ever sees a foreign namespace, whatever goes wrong inside.
"""

import errno
import fcntl
import os
import stat
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import ParamSpec, Self, TypeVar

from netbpf._sys.capabilities import Capability, permission_error
from netbpf._sys.fd import Fd
from netbpf._sys.namespaces import CLONE_NEWNET, setns, unshare
from netbpf.errors import KernelError, NamespaceNotFoundError, NetbpfError, PermissionDeniedError
from netbpf.text import did_you_mean, escape

P = ParamSpec("P")
T = TypeVar("T")

RUN_DIRECTORY = Path("/run/netns")  # where ip-netns(8) mounts them
_RUN_DIRECTORIES = (RUN_DIRECTORY, Path("/var/run/netns"))
NS_GET_NSTYPE = 0xB703  # include/uapi/linux/nsfs.h, Linux 4.11
_CURRENT = Path("/proc/thread-self/ns/net")  # /proc/self would be the main thread's
_KINDS = {
    0x00000080: "time",
    0x00020000: "mount",
    0x02000000: "cgroup",
    0x04000000: "UTS",
    0x08000000: "IPC",
    0x10000000: "user",
    0x20000000: "PID",
}
_KNOWN = "network namespaces here"
# Seconds that a function in another thread may take to come to an end after Ctrl-C.
_GRACE = 2.0


class Namespace:
    """An open network namespace. Close it, or use it as a context manager; it exists at least as long.

    ``inode`` is the number the kernel shows in ``net:[NUMBER]``, ``name`` the name below /run/netns if it was
    found by one, ``label`` what to call it in a message. Two objects of one namespace are equal.
    """

    __slots__ = ("_fd", "inode", "label", "name")

    def __init__(self, fd: Fd, *, name: str | None = None, label: str | None = None) -> None:
        """Take over ``fd``, which must be of a network namespace; ``open`` is the door for names."""
        self._fd = fd
        self.inode = os.fstat(fd.fileno()).st_ino
        self.name = name
        self.label = name or label or f"net:[{self.inode}]"

    @classmethod
    def current(cls) -> Self:
        """The namespace of the calling thread."""
        return cls(Fd(os.open(_CURRENT, os.O_RDONLY | os.O_CLOEXEC)))

    @classmethod
    def create(cls) -> Self:
        """A new namespace without a name, that vanishes with the last descriptor, process and socket in it.

        Its loopback is down. Raises PermissionDeniedError without CAP_SYS_ADMIN.
        """

        def make() -> Fd:
            unshare(CLONE_NEWNET)
            return Fd(os.open(_CURRENT, os.O_RDONLY | os.O_CLOEXEC))

        try:
            return cls(_in_thread(make))
        except KernelError as error:
            if error.errno == errno.EPERM:
                raise permission_error("create a network namespace", Capability.SYS_ADMIN) from None
            raise

    @classmethod
    def open(cls, spec: str) -> Self:
        """Open ``NAME`` below /run/netns, a path (anything with a slash), or ``pid:NUMBER``.

        Raises NamespaceNotFoundError if there is none or it is something else, PermissionDeniedError.
        """
        name, path = _locate(spec)
        shown = escape(spec)
        try:
            # Looked at before it is opened: opening a device or a FIFO could do something.
            if not stat.S_ISREG(path.stat().st_mode):
                raise NamespaceNotFoundError(
                    f"'{shown}' is no network namespace: {path} is no namespace file"
                )
            fd = Fd(os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK))
        except PermissionError as error:
            raise PermissionDeniedError(
                f"no permission to open network namespace '{shown}'",
                hint="another user's process needs root, or CAP_SYS_PTRACE and CAP_SYS_ADMIN",
            ) from error
        except (OSError, ValueError) as error:  # ValueError: a NUL byte in the path
            raise _absent(spec, error) from None
        try:
            _check_kind(fd, shown, path)
        except NamespaceNotFoundError:
            fd.close()
            raise
        return cls(fd, name=name, label=spec)

    def run(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Call ``function`` inside this namespace and return, or raise, what it does.

        It runs in a fresh thread, or simply here when the calling thread is in this namespace already.
        Ctrl-C reaches the caller; the function then gets two seconds to come to an end, so that no
        half-done work goes on behind the caller's clean-up.

        Raises PermissionDeniedError without CAP_SYS_ADMIN.
        """
        if self.is_current():
            return function(*args, **kwargs)
        fd = self._fd.fileno()

        def inside() -> T:
            try:
                setns(fd, CLONE_NEWNET)
            except KernelError as error:
                if error.errno == errno.EPERM:
                    raise permission_error(
                        f"enter network namespace {escape(self.label)}", Capability.SYS_ADMIN
                    ) from None
                raise
            return function(*args, **kwargs)

        return _in_thread(inside)

    def is_current(self) -> bool:
        """Whether the calling thread is in this namespace."""
        return _CURRENT.stat().st_ino == self.inode

    def duplicate(self) -> "Namespace":
        """A second, independent hold on the same namespace."""
        return Namespace(self._fd.duplicate(), name=self.name, label=self.label)

    def fileno(self) -> int:
        """The descriptor, still owned by this object; ValueError once closed."""
        return self._fd.fileno()

    def close(self) -> None:
        """Let go of it; closing twice is harmless."""
        self._fd.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Namespace) and other.inode == self.inode

    def __hash__(self) -> int:
        return hash(self.inode)

    def __repr__(self) -> str:
        return f"<Namespace {self.label} inode={self.inode}>"


def names() -> dict[int, str]:
    """The namespaces named below /run/netns: inode number -> name, the first by alphabet where there are several."""
    device = _CURRENT.stat().st_dev
    found: dict[int, str] = {}
    for name in _run_names():
        try:
            # A leftover of a deleted namespace is an empty file on tmpfs, and another device.
            status = (RUN_DIRECTORY / name).stat()
        except OSError:
            continue
        if status.st_dev == device:
            found.setdefault(status.st_ino, name)
    return found


def all_namespaces() -> Iterator[Namespace]:
    """Every network namespace that has a name or a process: the calling thread's first, then named, then others.

    Each is open until the next one is asked for (hold on to one with ``duplicate``), so that a thousand
    namespaces cost one descriptor. One that vanishes meanwhile, or may not be opened, is left out.
    """
    with Namespace.current() as here:
        here.name = names().get(here.inode)
        here.label = here.name or here.label
        seen = {here.inode}
        yield here
    for spec in [*_run_names(), *_process_specs(seen)]:
        try:
            namespace = Namespace.open(spec)
        except NetbpfError:
            continue
        with namespace:
            if namespace.inode not in seen:
                seen.add(namespace.inode)
                yield namespace


def _run_names() -> list[str]:
    try:
        return sorted(entry.name for entry in RUN_DIRECTORY.iterdir())
    except OSError:
        return []


def _process_specs(seen: set[int]) -> Iterator[str]:
    """``pid:NUMBER`` of one process for each namespace not in ``seen``, which the caller extends meanwhile."""
    for pid in sorted(int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()):
        try:
            # The link reads "net:[4026531840]"; looking through it would need more permission.
            inode = int(str(Path(f"/proc/{pid}/ns/net").readlink())[5:-1])
        except (OSError, ValueError):
            continue  # ended meanwhile, or another user's
        if inode not in seen:
            yield f"pid:{pid}"


def name_of(spec: str) -> str | None:
    """The name below /run/netns that ``spec`` stands for, whether or not there is such a namespace."""
    try:
        return _locate(spec)[0]
    except NamespaceNotFoundError:
        return None


def _locate(spec: str) -> tuple[str | None, Path]:
    """(name below /run/netns or None, path) of what the user wrote."""
    kind, colon, number = spec.partition(":")
    if colon and kind == "pid" and number.isascii() and number.isdigit():
        return None, Path(f"/proc/{number}/ns/net")
    if "/" in spec:
        path = Path(spec)
        return (path.name if path.parent in _RUN_DIRECTORIES else None), path
    if spec in ("", ".", ".."):
        raise NamespaceNotFoundError(
            f"'{spec}' is no network namespace name", hint=did_you_mean("", _run_names(), _KNOWN)
        )
    return spec, RUN_DIRECTORY / spec


def _absent(spec: str, error: OSError | ValueError) -> NamespaceNotFoundError:
    shown = escape(spec)
    if spec.startswith("pid:"):
        return NamespaceNotFoundError(f"no network namespace '{shown}': there is no such process")
    if "/" in spec:
        reason = error.strerror if isinstance(error, OSError) else "the path holds a NUL byte"
        return NamespaceNotFoundError(f"no network namespace at '{shown}': {reason}")
    hint = did_you_mean(spec, _run_names(), _KNOWN)
    if spec.isdigit():
        hint = f"the namespace of process {spec} is pid:{spec}"
    return NamespaceNotFoundError(f"no network namespace '{shown}'", hint=hint)


def _check_kind(fd: Fd, shown: str, path: Path) -> None:
    try:
        kind = fcntl.ioctl(fd.fileno(), NS_GET_NSTYPE)
    except OSError:  # ENOTTY: not on nsfs
        gone = path.parent in _RUN_DIRECTORIES
        raise NamespaceNotFoundError(
            f"'{shown}' is no network namespace: {path} is "
            + ("what is left of a deleted one" if gone else "an ordinary file"),
            hint=f"remove it: ip netns delete {path.name}" if gone else None,
        ) from None
    if kind != CLONE_NEWNET:
        raise NamespaceNotFoundError(
            f"'{shown}' is a {_KINDS.get(kind, 'different')} namespace, not a network one"
        )


def _in_thread(function: Callable[[], T]) -> T:
    """Call ``function`` in a thread of its own and give back its result or exception."""
    results: list[T] = []
    failures: list[BaseException] = []
    # Not Thread.join for the waiting: until Python 3.13, Ctrl-C during a join makes the thread count as ended
    # (threading.py _wait_for_tstate_lock), and a second join comes back at once.
    running = threading.Lock()
    running.acquire()

    def body() -> None:
        try:
            results.append(function())
        except BaseException as error:  # noqa: BLE001 - it is raised again in the caller
            failures.append(error)
        finally:
            running.release()

    # A daemon, so that a function that does not end cannot keep the process.
    thread = threading.Thread(target=body, name="netbpf-netns", daemon=True)
    try:
        thread.start()
        running.acquire()
    except KeyboardInterrupt:
        # The signal may also have come between the function's end and here, with the lock taken already.
        if not results and not failures:
            running.acquire(timeout=_GRACE)
        raise
    thread.join()
    if failures:
        try:
            raise failures.pop()
        finally:
            # The traceback refers to this frame: the exception must not live on through it.
            del failures
    return results.pop()
