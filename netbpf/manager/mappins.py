"""Maps that several attachments share, by pins in a directory of the user's (``--pin-maps DIR``).

It concerns the maps that ask for it: ``__uint(pinning, LIBBPF_PIN_BY_NAME)``, or iproute2's ``PIN_GLOBAL_NS``. Without
it netbpf makes them anew for each attach, and says so, since the one place libbpf has for them, /sys/fs/bpf/NAME, would
make programs on different interfaces, and different programs with a map of the same name, write into one another's.
What tc(8) has pinned is shared by its directory, /sys/fs/bpf/tc/globals.
"""

import errno
import os
import stat
from collections.abc import Collection
from pathlib import Path
from types import TracebackType
from typing import Self

from netbpf._sys import bpf as sys_bpf
from netbpf._sys.capabilities import Capability, permission_error
from netbpf._sys.fd import Fd
from netbpf.bpf import pin
from netbpf.bpf.loader import Loaded
from netbpf.bpf.map import Map
from netbpf.bpf.mapdefs import PIN_BY_OBJECT, PIN_REPLACE, MapSpec
from netbpf.bpf.mapsizes import entries
from netbpf.bpf.object import ObjectSpec
from netbpf.errors import KernelError, NetbpfError, ObjectError, UsageError
from netbpf.manager.mapfit import mismatches
from netbpf.text import escape


class SharedMaps:
    """The pinned maps of one attach: ``maps`` are those that exist already, open until the block ends.

    ``pin_new`` pins the others once they are made; they are unpinned again if the block ends with an exception.
    ``directory`` None shares nothing; ``given`` are maps that come from elsewhere.
    """

    def __init__(
        self, directory: Path | None, spec: ObjectSpec, given: Collection[str] = ()
    ) -> None:
        """Raises UsageError for a directory outside any bpffs, ObjectError for a pinned map of another shape."""
        self.maps: dict[str, Map] = {}
        self._made: list[Path] = []
        self._before: list[tuple[Path, Fd]] = []
        self._paths: dict[str, Path] = {}
        self._asked = directory is not None
        self._wanting = [
            one.name for one in spec.maps.values() if one.pinning and one.name not in given
        ]
        if directory is None:
            return
        root = _checked(directory)
        self._paths = {name: _place(root, name, spec) for name in self._wanting}
        try:
            for name, path in self._paths.items():
                found = pin.open_pin(path)
                if found and spec.maps[name].pinning == PIN_REPLACE:
                    self._before.append((path, found))
                elif found:
                    self.maps[name] = _opened(found, path)
                    _check_same(spec.maps[name], self.maps[name], path)
        except BaseException:
            self._close()
            raise

    def pin_new(self, loaded: Loaded) -> tuple[str, ...]:
        """Pin what the program uses and was not there yet; a remark for the user where nothing is shared."""
        used = [name for name in self._wanting if name in loaded.maps]
        if not self._asked:
            return _unshared(used)
        replaced = {path for path, _ in self._before}
        for name in used:
            if name not in self.maps:
                path = self._paths[name]
                self._made.append(path)
                if path in replaced:
                    path.unlink(missing_ok=True)
                pin.pin(path, loaded.maps[name].fd.fileno())
        if not used:
            what = escape(loaded.program_spec.name)
            return (f"--pin-maps shares nothing: {what} uses no map with LIBBPF_PIN_BY_NAME",)
        return ()

    def _undo(self) -> None:
        """Take away what was pinned here, and put back what was pinned before."""
        before = dict(self._before)
        for path in self._made:
            path.unlink(missing_ok=True)
            if path in before:
                pin.pin(path, before[path].fileno())

    def _close(self) -> None:
        for one in self.maps.values():
            one.close()
        for _, fd in self._before:
            fd.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            if error is not None:
                self._undo()
        finally:
            self._close()


def _place(root: Path, name: str, spec: ObjectSpec) -> Path:
    """Where a map is pinned. Those of ``PIN_OBJECT_NS`` have a directory for each object, named by its content."""
    by_object = spec.maps[name].pinning == PIN_BY_OBJECT
    return root / spec.sha256[:16] / name if by_object else root / name


def _unshared(used: list[str]) -> tuple[str, ...]:
    if not used:
        return ()
    names, ask = ", ".join(map(escape, used)), "asks" if len(used) == 1 else "ask"
    return (
        f"{names} {ask} to be pinned, and would be shared with --pin-maps DIR; made anew for this attach",
    )


def _checked(directory: Path) -> Path:
    path = Path(os.path.abspath(directory))  # noqa: PTH100 - without following links
    # Not Path.exists, which raises for a name with a dot: a bpffs answers EPERM.
    existing = next(one for one in (path, *path.parents) if os.path.exists(one))  # noqa: PTH110
    if not pin.is_bpffs(existing):
        raise UsageError(
            f"--pin-maps: {escape(str(path))} is in no BPF file system",
            hint="mount one: mount -t bpf bpf /sys/fs/bpf; then for example --pin-maps /sys/fs/bpf/maps",
        )
    if any("." in part for part in path.relative_to(existing).parts):
        raise UsageError(
            f"--pin-maps: {escape(str(path))}: a BPF file system takes no names with a dot"
        )
    return path


def _opened(fd: Fd, path: Path) -> Map:
    kind = _kind(fd)
    if kind != "bpf-map":
        fd.close()
        raise ObjectError(
            f"{escape(str(path))} is pinned already, and is no map but a {escape(kind)}"
        )
    return Map(fd)


def _check_same(spec: MapSpec, pinned: Map, path: Path) -> None:
    differences = mismatches(spec, pinned)
    if pinned.info.max_entries != entries(spec):
        differences.append(f"max_entries {pinned.info.max_entries} instead of {entries(spec)}")
    if differences:
        raise ObjectError(
            f"the map pinned at {escape(str(path))} is not as the object wants it: {', '.join(differences)}",
            hint="remove it if nothing else needs it, or use another directory",
        )


def open_user_pin(path: Path, option: str) -> Map:
    """A map that the user names by its pin, whoever made it.

    Unlike netbpf's own pins it may lie where others can write: the user says that this is the one. A symbolic link
    would say that somebody else does. Raises ObjectError, NetbpfError for a link, PermissionDeniedError.
    """
    shown = escape(str(path))
    try:
        status = path.lstat()
        if stat.S_ISLNK(status.st_mode):
            raise NetbpfError(
                f"{option}: {shown} is a symbolic link", hint="name the pin that it leads to"
            )
        found = sys_bpf.obj_get(str(path))
    except OSError as error:
        raise ObjectError(f"{option}: cannot open {shown}: {error.strerror}") from None
    except KernelError as error:
        if error.errno == errno.EPERM:
            raise permission_error(f"open the pin {shown}", Capability.BPF) from None
        if error.errno in (errno.EACCES, errno.EINVAL, errno.ENOENT):
            raise ObjectError(f"{option}: {shown} is no pin of a map") from None
        raise
    kind = _kind(found)
    if kind != "bpf-map":
        found.close()
        raise ObjectError(f"{option}: {shown} is no map but a {escape(kind)}")
    return Map(found)


def _kind(fd: Fd) -> str:
    # A program or link answers the question for its description too, and with another one.
    return str(Path(f"/proc/self/fd/{fd.fileno()}").readlink()).removeprefix("anon_inode:")
