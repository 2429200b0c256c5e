"""More of what the kernel tells of programs, maps and links: code, where links hang, what holds a descriptor.

struct bpf_prog_info and struct bpf_link_info (include/uapi/linux/bpf.h); proc(5) for fdinfo.
"""

import ctypes
import errno
import os
import struct
from typing import NamedTuple

from netbpf._sys.bpf import Buffer, info_by_fd
from netbpf.constants import LinkType
from netbpf.errors import KernelError

_PROG_SIZE, _LINK_SIZE, _BTF_SIZE, _NAME_ROOM = 232, 64, 32, 256


class ProgramCode(NamedTuple):
    """A program as the kernel runs it. Empty parts are those that the kernel does not show.

    ``functions`` are (instruction, BTF type id), ``lines`` (instruction, file, text, line << 10 | column) with offsets
    of BTF strings, ``addresses`` and ``lengths`` those of the machine code of each function, ``jited_lines`` the
    addresses of the machine code of ``lines``.
    """

    xlated: bytes
    jited: bytes
    functions: tuple[tuple[int, int], ...]
    lines: tuple[tuple[int, int, int, int], ...]
    addresses: tuple[int, ...]
    lengths: tuple[int, ...]
    jited_lines: tuple[int, ...]


def _u32(info: Buffer, offset: int) -> int:
    return int(struct.unpack_from("<I", info, offset)[0])


def _u64(info: Buffer, offset: int) -> int:
    return int(struct.unpack_from("<Q", info, offset)[0])


# Where the count and the pointer of each array are, and the size of its records in bytes.
_ARRAYS = {
    "jited": (16, 24, 1), "xlated": (20, 32, 1), "addresses": (104, 112, 8), "lengths": (108, 120, 4),
    "functions": (144, 136, 8), "lines": (148, 152, 16), "jited_lines": (168, 160, 8),
}  # fmt: skip
_RECORD_SIZES = {"functions": (132, 8), "lines": (172, 16), "jited_lines": (176, 8)}


def program_code(fd: int) -> ProgramCode:
    """The code of a program; KernelError where the kernel does not tell."""
    first = ctypes.create_string_buffer(_PROG_SIZE)
    info_by_fd(fd, first, _PROG_SIZE)
    info = ctypes.create_string_buffer(_PROG_SIZE)
    buffers = {}
    for name, (count_at, pointer_at, size) in _ARRAYS.items():
        count = _u32(first, count_at)
        buffers[name] = room = ctypes.create_string_buffer(max(count * size, 1))
        if count:
            struct.pack_into("<I", info, count_at, count)
            struct.pack_into("<Q", info, pointer_at, ctypes.addressof(room))
    for size_at, size in _RECORD_SIZES.values():
        struct.pack_into("<I", info, size_at, size)
    info_by_fd(fd, info, _PROG_SIZE)

    def part(name: str) -> bytes:
        # Where the caller may not see addresses, the kernel clears the pointers it does not follow.
        count_at, pointer_at, size = _ARRAYS[name]
        if not _u64(info, pointer_at):
            return b""
        return buffers[name].raw[: min(_u32(info, count_at), _u32(first, count_at)) * size]

    def words(name: str, code: str) -> tuple[int, ...]:
        raw = part(name)
        return struct.unpack(f"<{len(raw) // struct.calcsize(code)}{code}", raw)

    return ProgramCode(
        part("xlated"), part("jited"),
        tuple(struct.iter_unpack("<II", part("functions"))), tuple(struct.iter_unpack("<IIII", part("lines"))),
        words("addresses", "Q"), words("lengths", "I"), words("jited_lines", "Q"),
    )  # fmt: skip


class LinkPlace(NamedTuple):
    """Where a link hangs; what does not belong to its type is 0 or ""."""

    ifindex: int = 0
    attach_type: int | None = None
    netns: int = 0
    cgroup: int = 0
    name: str = ""  # of a raw tracepoint, of what an iterator goes through
    target_object: int = 0
    target_type: int = 0


def link_place(fd: int, kind: int) -> LinkPlace:
    """What ``struct bpf_link_info`` says of a link of a type."""
    info = ctypes.create_string_buffer(_LINK_SIZE)
    if kind in (LinkType.RAW_TRACEPOINT, LinkType.ITER):
        return LinkPlace(name=_link_name(fd, info))
    info_by_fd(fd, info, _LINK_SIZE)
    match kind:
        case LinkType.XDP:
            return LinkPlace(ifindex=_u32(info, 16))
        case LinkType.TCX | LinkType.NETKIT:
            return LinkPlace(ifindex=_u32(info, 16), attach_type=_u32(info, 20))
        case LinkType.NETNS:
            return LinkPlace(netns=_u32(info, 16), attach_type=_u32(info, 20))
        case LinkType.CGROUP:
            return LinkPlace(cgroup=_u64(info, 16), attach_type=_u32(info, 24))
        case LinkType.TRACING:
            return LinkPlace(
                attach_type=_u32(info, 16), target_object=_u32(info, 20), target_type=_u32(info, 24)
            )
    return LinkPlace()


def _link_name(fd: int, info: Buffer) -> str:
    name = ctypes.create_string_buffer(_NAME_ROOM)
    struct.pack_into("<QI", info, 16, ctypes.addressof(name), _NAME_ROOM)
    try:
        info_by_fd(fd, info, _LINK_SIZE)
    except KernelError as error:
        if error.errno != errno.ENOSPC:
            raise
    return name.value.decode(errors="backslashreplace")


def fdinfo(fd: int, process: str = "self") -> dict[str, str]:
    """What /proc says of a descriptor of this or another process: ``memlock`` (bytes), ``frozen``, ``prog_id`` ..."""
    path = os.open(f"/proc/{process}/fdinfo/{fd}", os.O_RDONLY | os.O_CLOEXEC)
    try:
        text = os.read(path, 1 << 16).decode(errors="replace")
    finally:
        os.close(path)
    found = (line.partition(":") for line in text.splitlines())
    return {name: value.strip() for name, _, value in found}


KINDS = {
    "bpf-prog": "program",
    "bpf-map": "map",
    "bpf_link": "link",
    "bpf-link": "link",
    "btf": "btf",
}


def kind_of(fd: int, process: str = "self") -> str | None:
    """What a descriptor is: "program", "map", "link", "btf"; None for what is not BPF. OSError where it is gone."""
    target = os.readlink(f"/proc/{process}/fd/{fd}")  # noqa: PTH115 - of thousands, Path is slow
    if not target.startswith("anon_inode:"):
        return None
    return KINDS.get(target.removeprefix("anon_inode:").strip("[]"))


class BtfDetails(NamedTuple):
    """A BTF of the kernel: its size in bytes; ``kernel`` says that it is the kernel's own or a module's."""

    id: int
    name: str
    size: int
    kernel: bool


def btf_details(fd: int) -> BtfDetails:
    """``struct bpf_btf_info`` without the types; name and ``kernel`` since Linux 5.11."""
    info = ctypes.create_string_buffer(_BTF_SIZE)
    name = ctypes.create_string_buffer(_NAME_ROOM)
    struct.pack_into("<QI", info, 16, ctypes.addressof(name), _NAME_ROOM)
    info_by_fd(fd, info, _BTF_SIZE)
    text = name.value.decode(errors="backslashreplace")
    return BtfDetails(_u32(info, 12), text, _u32(info, 8), bool(_u32(info, 28)))
