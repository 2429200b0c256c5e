"""Maps that several attachments share, by pins in a directory of the user's (``--pin-maps DIR``).

It concerns the maps that ask for it: ``__uint(pinning, LIBBPF_PIN_BY_NAME)``. Without it netbpf makes them anew for
each attach, since the one place libbpf has for them, /sys/fs/bpf/NAME, would make programs on different interfaces,
and different programs with a map of the same name, write into one another's.
"""

import os
from pathlib import Path
from types import TracebackType
from typing import Self

from netbpf._sys.fd import Fd
from netbpf.bpf import pin
from netbpf.bpf.loader import Loaded
from netbpf.bpf.map import Map
from netbpf.bpf.mapdefs import MapSpec
from netbpf.bpf.mapsizes import entries
from netbpf.bpf.object import ObjectSpec
from netbpf.constants import MapFlag, MapType
from netbpf.errors import ObjectError, UsageError
from netbpf.text import escape

# The kernel adds this one to what the object says (kernel/bpf/devmap.c, dev_map_init_map).
_ADDED_BY_KERNEL = MapFlag.RDONLY_PROG
_DEVMAPS = (MapType.DEVMAP, MapType.DEVMAP_HASH)


class SharedMaps:
    """The pinned maps of one attach: ``maps`` are those that exist already, open until the block ends.

    ``pin_new`` pins the others once they are made; they are unpinned again if the block ends with an exception.
    ``directory`` None shares nothing.
    """

    def __init__(self, directory: Path | None, spec: ObjectSpec) -> None:
        """Raises UsageError for a directory outside any bpffs, ObjectError for a pinned map of another shape."""
        self.maps: dict[str, Map] = {}
        self._made: list[Path] = []
        self._paths: dict[str, Path] = {}
        self._asked = directory is not None
        if directory is None:
            return
        root = _checked(directory)
        self._paths = {one.name: root / one.name for one in spec.maps.values() if one.pinning}
        try:
            for name, path in self._paths.items():
                found = pin.open_pin(path)
                if found:
                    self.maps[name] = _opened(found, path)
                    _check_same(spec.maps[name], self.maps[name], path)
        except BaseException:
            self._close()
            raise

    def pin_new(self, loaded: Loaded) -> tuple[str, ...]:
        """Pin what the program uses and was not there yet; a remark for the user where nothing is shared."""
        used = [name for name in self._paths if name in loaded.maps]
        for name in used:
            if name not in self.maps:
                pin.pin(self._paths[name], loaded.maps[name].fd.fileno())
                self._made.append(self._paths[name])
        if self._asked and not used:
            what = escape(loaded.program_spec.name)
            return (f"--pin-maps shares nothing: {what} uses no map with LIBBPF_PIN_BY_NAME",)
        return ()

    def _close(self) -> None:
        for one in self.maps.values():
            one.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._close()
        if error is not None:
            for path in self._made:
                path.unlink(missing_ok=True)


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
    # A program or link answers the question for its description too, and with another one.
    kind = str(Path(f"/proc/self/fd/{fd.fileno()}").readlink()).removeprefix("anon_inode:")
    if kind != "bpf-map":
        fd.close()
        raise ObjectError(
            f"{escape(str(path))} is pinned already, and is no map but a {escape(kind)}"
        )
    return Map(fd)


def _check_same(spec: MapSpec, pinned: Map, path: Path) -> None:
    info = pinned.info
    flags = info.flags & ~(_ADDED_BY_KERNEL if info.type in _DEVMAPS else 0)
    differences = [
        f"{what} {there} instead of {wanted}"
        for what, there, wanted in (
            ("type", _type(info.type), _type(spec.type)),
            ("key size", info.key_size, spec.key_size),
            ("value size", info.value_size, spec.value_size),
            ("max_entries", info.max_entries, entries(spec)),
            ("flags", f"{flags:#x}", f"{spec.flags:#x}"),
        )
        if there != wanted
    ]
    if differences:
        raise ObjectError(
            f"the map pinned at {escape(str(path))} is not as the object wants it: {', '.join(differences)}",
            hint="remove it if nothing else needs it, or use another directory",
        )


def _type(number: int) -> str:
    try:
        return MapType(number).name.lower()
    except ValueError:
        return str(number)
