"""BPF_OBJ_GET_INFO_BY_FD, read into model values (struct bpf_{prog,map,link,btf}_info, include/uapi/linux/bpf.h)."""

import ctypes
import struct
from typing import NamedTuple

from netbpf._sys.bpf import Buffer, info_by_fd
from netbpf.constants import LinkType
from netbpf.model import LinkInfo, MapInfo, ProgramInfo

# Their interface, cgroup or namespace can go away while the link is held.
_LOSE_THEIR_PLACE = frozenset({LinkType.XDP, LinkType.TCX, LinkType.CGROUP, LinkType.NETNS})
_PROG_SIZE, _MAP_SIZE, _LINK_SIZE, _BTF_SIZE = 232, 104, 64, 32


def _word(info: Buffer, offset: int) -> int:
    return int(struct.unpack_from("<I", info, offset)[0])


def _long(info: Buffer, offset: int) -> int:
    return int(struct.unpack_from("<Q", info, offset)[0])


def _text(info: Buffer, offset: int, size: int = 16) -> str:
    raw: bytes = info.raw[offset : offset + size]
    return raw.split(b"\0")[0].decode(errors="backslashreplace")


def program_info(fd: int) -> ProgramInfo:
    """``struct bpf_prog_info``; KernelError where the descriptor is no program or permission lacks."""
    room = 64
    while True:
        info = ctypes.create_string_buffer(_PROG_SIZE)
        ids = ctypes.create_string_buffer(4 * room)
        struct.pack_into("<IIQ", info, 48, 0, room, ctypes.addressof(ids))
        info_by_fd(fd, info, _PROG_SIZE)
        count = _word(info, 52)
        if count <= room:
            break
        room = count
    return ProgramInfo(
        id=_word(info, 4),
        name=_text(info, 64),
        type=_word(info, 0),
        tag=info.raw[8:16].hex(),
        map_ids=struct.unpack_from(f"<{count}I", ids),
        btf_id=_word(info, 128),
        loaded_at_ns=_long(info, 40),
        uid=_word(info, 48),
        gpl_compatible=bool(_word(info, 84) & 1),
        ifindex=_word(info, 80),
        xlated_size=_word(info, 20),
        jited_size=_word(info, 16),
        verified_insns=_word(info, 216),
        run_time_ns=_long(info, 192),
        run_count=_long(info, 200),
    )


def map_info(fd: int) -> MapInfo:
    """``struct bpf_map_info``; whether the map is frozen is not in it, see ``map_frozen``."""
    info = ctypes.create_string_buffer(_MAP_SIZE)
    info_by_fd(fd, info, _MAP_SIZE)
    return MapInfo(
        id=_word(info, 4),
        name=_text(info, 24),
        type=_word(info, 0),
        key_size=_word(info, 8),
        value_size=_word(info, 12),
        max_entries=_word(info, 16),
        flags=_word(info, 20),
        btf_id=_word(info, 64),
        btf_key_type_id=_word(info, 68),
        btf_value_type_id=_word(info, 72),
    )


def map_frozen(fd: int) -> bool:
    """Whether user space may no longer write to a map (Linux 5.2; kernel/bpf/syscall.c, bpf_map_show_fdinfo)."""
    with open(f"/proc/self/fdinfo/{fd}") as lines:
        return any(line.startswith("frozen:") and line.split()[1] == "1" for line in lines)


class ArrayOwner(NamedTuple):
    """What programs a prog array takes: those like its first one."""

    type: int
    jited: bool


def prog_array_owner(fd: int) -> ArrayOwner | None:
    """The kind of the programs of a prog array; None while there has been none (bpf_map_show_fdinfo)."""
    with open(f"/proc/self/fdinfo/{fd}") as lines:
        found = dict(line.split(":", 1) for line in lines if ":" in line)
    if "owner_prog_type" not in found:
        return None
    return ArrayOwner(int(found["owner_prog_type"]), int(found.get("owner_jited", "0")) == 1)


def link_info(fd: int) -> LinkInfo:
    """``struct bpf_link_info``; ``ifindex`` and ``attach_type`` are read for XDP and TCX links, 0 for others."""
    info = ctypes.create_string_buffer(_LINK_SIZE)
    info_by_fd(fd, info, _LINK_SIZE)
    kind = _word(info, 0)
    ifindex = _word(info, 16) if kind in (LinkType.XDP, LinkType.TCX) else 0
    attach_type = _word(info, 20) if kind == LinkType.TCX else 0
    # What a link is on, as the first field behind the common ones: an ifindex, a namespace, a cgroup (64 bits).
    gone = kind in _LOSE_THEIR_PLACE and not (
        _long(info, 16) if kind == LinkType.CGROUP else _word(info, 16)
    )
    return LinkInfo(_word(info, 4), kind, _word(info, 8), ifindex, attach_type, gone)


def btf_bytes(fd: int) -> bytes:
    """The bytes of a BTF object."""
    info = ctypes.create_string_buffer(_BTF_SIZE)
    info_by_fd(fd, info, _BTF_SIZE)
    size = _word(info, 8)
    blob = ctypes.create_string_buffer(max(size, 1))
    info = ctypes.create_string_buffer(_BTF_SIZE)
    struct.pack_into("<QI", info, 0, ctypes.addressof(blob), size)
    info_by_fd(fd, info, _BTF_SIZE)
    return blob.raw[:size]
