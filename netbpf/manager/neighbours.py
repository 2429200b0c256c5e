"""The programs that another manager runs on a hook behind its dispatcher.

libxdp's and bpfman's dispatchers call each of their programs in the place of a function ``prog0`` ... ``prog9``
(freplace). What is known of them is in constants of the dispatcher, ``struct xdp_dispatcher_config``, and in pins:
``xdp/dispatch-IFINDEX-ID/prog0-prog`` (lib/libxdp/protocol.org of xdp-tools), and bpfman's
``/run/bpfman/fs/xdp/dispatcher_IFINDEX_REVISION/link_ID``.
"""

import os
import re
import stat
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

from netbpf import layout
from netbpf._sys import bpf as sys_bpf
from netbpf._sys.info import link_info, program_info
from netbpf.bpf.chain import verdicts
from netbpf.bpf.map import Map
from netbpf.bpf.program import Program, btf_by_id
from netbpf.constants import Hook, MapType
from netbpf.errors import KernelError, NotAttachedError, ObjectError, PermissionDeniedError
from netbpf.model import Neighbour, Occupant, ProgramInfo

DISPATCHERS: Final = frozenset({"xdp_dispatcher", "tc_dispatcher"})
BPFMAN_FS: Final = Path("/run/bpfman/fs")
_MAGIC: Final = 236  # XDP_DISPATCHER_MAGIC; the first version had none
_MOST: Final = 10  # MAX_DISPATCHER_ACTIONS
_V1: Final = struct.Struct("<B3x10I10I")
_V2: Final = struct.Struct("<BBBB10I10I10I")
_VARIABLES: Final = ("conf", "CONFIG")
_BPFMAN_DIRECTORIES: Final = {
    Hook.XDP: "xdp",
    Hook.TC_INGRESS: "tc-ingress",
    Hook.TC_EGRESS: "tc-egress",
}


class Config(NamedTuple):
    """What a dispatcher says of its programs: by position, the verdicts that go on (a bitmap) and the priority."""

    actions: tuple[int, ...]
    priorities: tuple[int, ...]


def config(program: ProgramInfo) -> Config | None:
    """The configuration of a dispatcher, or None for a program that is none, or one of a version unknown here."""
    if program.name not in DISPATCHERS:
        return None
    for number in program.map_ids:
        try:
            with Map.by_id(number) as one:
                found = _config(one, versions=program.name == "xdp_dispatcher")
        except NotAttachedError:
            continue
        if found:
            return found
    return None


def _config(one: Map, *, versions: bool) -> Config | None:
    if one.info.type != MapType.ARRAY or one.info.max_entries != 1 or not one.frozen:
        return None
    data = (one.lookup(bytes(4)) or b"")[_offset(one) :]
    if versions and data[:1] == bytes([_MAGIC]):
        if len(data) < _V2.size or data[1] != 2:
            return None
        _, _, number, _, *rest = _V2.unpack_from(data)
    elif len(data) >= _V1.size:
        number, *rest = _V1.unpack_from(data)
    else:
        return None
    if number > _MOST:
        return None
    return Config(tuple(rest[:number]), tuple(rest[_MOST : _MOST + number]))


def _offset(one: Map) -> int:
    """Where in the section the configuration lies; compilers put other constants there too."""
    try:
        btf = btf_by_id(one.info.btf_id)
        if btf is None or not one.info.btf_value_type_id:
            return 0
        for var in btf.section_vars(btf.type(one.info.btf_value_type_id)):
            if btf.type(var.type_id).name in _VARIABLES:
                return var.offset
    except ObjectError:
        pass
    return 0


# --- the programs ---


def neighbours(occupant: Occupant, program: ProgramInfo) -> tuple[Neighbour, ...]:
    """The programs behind a dispatcher, in running order; () where ``program`` is none.

    Where the pins are not to be seen, as inside of ``ip netns exec``, they have no names: only what the dispatcher
    says of them is known.
    """
    said = config(program)
    pins = dict(_libxdp(occupant)) or dict(_bpfman(occupant))
    if said is None and not pins:
        return ()
    count = len(said.actions) if said else max(pins) + 1
    return tuple(
        _neighbour(position, said, pins.get(position), occupant.hook) for position in range(count)
    )


def _neighbour(
    position: int, said: Config | None, info: ProgramInfo | None, hook: Hook
) -> Neighbour:
    return Neighbour(
        info.name if info else "",
        info.id if info else 0,
        info.tag if info else "",
        position,
        said.priorities[position] if said else None,
        _verdicts(said.actions[position], hook) if said else None,
    )


def _verdicts(bitmap: int, hook: Hook) -> tuple[str, ...]:
    """The verdicts of a bitmap; bpfman's for TC begins at -1. (Bit 31 is a stub's, whose program is gone.)"""
    shift = 0 if hook is Hook.XDP else 1
    return tuple(
        name for name, number in verdicts.known(hook).items() if bitmap >> (number + shift) & 1
    )


def libxdp_pins(occupant: Occupant) -> Path:
    """The directory in which libxdp pins the members of a dispatcher."""
    return layout.BPFFS / "xdp" / f"dispatch-{occupant.interface.index}-{occupant.prog_id}"


def bpfman_pins(occupant: Occupant) -> list[Path]:
    """The directories in which bpfman pins the links of an interface's dispatchers: of each revision there is."""
    base = BPFMAN_FS / _BPFMAN_DIRECTORIES[occupant.hook]
    head = f"dispatcher_{occupant.interface.index}_"
    return [base / name for name in _names(base) if name.startswith(head)]


def _libxdp(occupant: Occupant) -> Iterator[tuple[int, ProgramInfo]]:
    directory = libxdp_pins(occupant)
    for name in _names(directory):
        found = re.fullmatch(r"prog(\d)-prog", name)
        info = _pinned(directory / name) if found else None
        if found and info:
            yield int(found[1]), info


def _bpfman(occupant: Occupant) -> Iterator[tuple[int, ProgramInfo]]:
    """Of one revision; its links are numbered as they came, which need not be the order they run in."""
    for directory in sorted(bpfman_pins(occupant), key=_revision)[-1:]:
        links = [name for name in _names(directory) if re.fullmatch(r"link_\w+", name)]
        found = [info for name in links if (info := _pinned(directory / name))]
        yield from enumerate(found)


def _revision(directory: Path) -> int:
    text = directory.name.rpartition("_")[2]
    return int(text) if text.isdecimal() else 0


def _names(directory: Path) -> list[str]:
    """What is in a directory of root's or ours in which nobody else can put anything."""
    try:
        status = directory.lstat()
        if not stat.S_ISDIR(status.st_mode) or status.st_uid not in (0, os.geteuid()):
            return []
        return [] if status.st_mode & 0o022 else sorted(os.listdir(directory))
    except OSError:
        return []


def _pinned(path: Path) -> ProgramInfo | None:
    """The program that is pinned, or whose link is; None for anything else."""
    try:
        if stat.S_ISLNK(path.lstat().st_mode):
            return None
        fd = sys_bpf.obj_get(str(path))
    except (OSError, KernelError):
        return None
    with fd:
        kind = str(Path(f"/proc/self/fd/{fd.fileno()}").readlink())
        if "prog" in kind:
            return program_info(fd.fileno())
        number = link_info(fd.fileno()).prog_id if "link" in kind else 0
    try:
        with Program.by_id(number) as program:
            return program.info
    except (NotAttachedError, PermissionDeniedError):
        return None
