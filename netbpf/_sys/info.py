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

# type, id, tag, jited_prog_len, xlated_prog_len, load_time, created_by_uid, nr_map_ids, name, ifindex, gpl_compatible,
# btf_id, run_time_ns, run_cnt, verified_insns
_PROGRAM = struct.Struct("<II8sII16xQII8x16sII40xI60xQQ8xI")
_ProgramBytes = ctypes.c_char * _PROG_SIZE


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
        info, ids = _ProgramBytes(), (ctypes.c_uint32 * room)()
        struct.pack_into("<IIQ", info, 48, 0, room, ctypes.addressof(ids))
        info_by_fd(fd, info, _PROG_SIZE)
        (
            kind, number, tag, jited, xlated, loaded_at, uid, count, name, ifindex, flags, btf_id,
            run_time, run_count, verified,
        ) = _PROGRAM.unpack_from(info)  # fmt: skip
        if count <= room:
            break
        room = count
    return ProgramInfo(
        number, name.split(b"\0")[0].decode(errors="backslashreplace"), kind, tag.hex(), tuple(ids[:count]), btf_id,
        loaded_at, uid, bool(flags & 1), ifindex, xlated, jited, verified, run_time, run_count,
    )  # fmt: skip


def recursion_misses(fd: int) -> int:
    """How often a program was not run because it was running on that CPU already (Linux 5.12; 0 before)."""
    info = ctypes.create_string_buffer(_PROG_SIZE)
    info_by_fd(fd, info, _PROG_SIZE)
    return _long(info, 208)


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


class BtfInfo(NamedTuple):
    """``struct bpf_btf_info``: its name ("vmlinux", a module's; "" for a program's), and whether it is the kernel's."""

    id: int
    name: str
    kernel: bool


def btf_info(fd: int) -> BtfInfo:
    """What the kernel says of a BTF object; the name since Linux 5.11 (kernel commit 5329722057d4)."""
    info = ctypes.create_string_buffer(_BTF_SIZE)
    name = ctypes.create_string_buffer(64)
    struct.pack_into("<QI", info, 16, ctypes.addressof(name), len(name))
    info_by_fd(fd, info, _BTF_SIZE)
    return BtfInfo(
        _word(info, 12), name.value.decode(errors="backslashreplace"), bool(_word(info, 28))
    )
