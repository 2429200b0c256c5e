"""bpf(2): one typed function per command, all through one funnel.

Attributes are packed by offset as in ``union bpf_attr`` (include/uapi/linux/bpf.h); the kernel takes any
attribute length and treats what is missing as zero, so one size serves every version (bpf_check_uarg_tail_zero).
Every function raises KernelError with the command's name and the errno, and nothing else.
"""

import ctypes
import errno
import mmap
import os
import struct
from typing import NamedTuple

from netbpf._sys.fd import Fd
from netbpf.errors import KernelError, NotSupportedError

_NR_BPF = {
    "x86_64": 321,
    "aarch64": 280,
    "riscv64": 280,
    "ppc64le": 361,
    "s390x": 351,
    "loongarch64": 280,
}
_MACHINE = os.uname().machine
_NR = _NR_BPF.get(_MACHINE)
_libc = ctypes.CDLL(None, use_errno=True)
_libc.syscall.restype = ctypes.c_long

_ATTR_SIZE = 144
_COMMANDS = (
    "MAP_CREATE MAP_LOOKUP_ELEM MAP_UPDATE_ELEM MAP_DELETE_ELEM MAP_GET_NEXT_KEY PROG_LOAD OBJ_PIN OBJ_GET "
    "PROG_ATTACH PROG_DETACH PROG_TEST_RUN PROG_GET_NEXT_ID MAP_GET_NEXT_ID PROG_GET_FD_BY_ID "
    "MAP_GET_FD_BY_ID OBJ_GET_INFO_BY_FD PROG_QUERY RAW_TRACEPOINT_OPEN BTF_LOAD BTF_GET_FD_BY_ID "
    "TASK_FD_QUERY MAP_LOOKUP_AND_DELETE_ELEM MAP_FREEZE BTF_GET_NEXT_ID MAP_LOOKUP_BATCH "
    "MAP_LOOKUP_AND_DELETE_BATCH MAP_UPDATE_BATCH MAP_DELETE_BATCH LINK_CREATE LINK_UPDATE "
    "LINK_GET_FD_BY_ID LINK_GET_NEXT_ID ENABLE_STATS ITER_CREATE LINK_DETACH PROG_BIND_MAP"
).split()
_NUMBER = {name: number for number, name in enumerate(_COMMANDS)}

Buffer = ctypes.Array[ctypes.c_char]
_Attr = ctypes.c_char * _ATTR_SIZE


def _syscall(command: int, attr: Buffer) -> int:
    """The only call of bpf(2) in netbpf: the result, or minus errno. Tests replace it to make the kernel fail."""
    if _NR is None:
        raise NotSupportedError(f"netbpf does not know bpf(2) on {_MACHINE}")
    result = int(_libc.syscall(_NR, command, attr, _ATTR_SIZE))
    return result if result >= 0 else -ctypes.get_errno()


def _call(name: str, attr: Buffer) -> int:
    result = _syscall(_NUMBER[name], attr)
    if result < 0:
        raise KernelError(f"BPF_{name}", -result)
    return result


def _attr(layout: str = "", *values: int | bytes) -> Buffer:
    attr = _Attr()
    struct.pack_into("<" + layout, attr, 0, *values)
    return attr


def _buffer(data: bytes) -> Buffer:
    # A zero-length array would have no address the kernel could read.
    return ctypes.create_string_buffer(data, max(len(data), 1))


def _address(buffer: Buffer | None) -> int:
    return 0 if buffer is None else ctypes.addressof(buffer)


# --- maps ---------------------------------------------------------------------------------------------------


def map_create(
    map_type: int,
    key_size: int,
    value_size: int,
    max_entries: int,
    *,
    flags: int = 0,
    name: str = "",
    inner_map_fd: int = 0,
    numa_node: int = 0,
    btf_fd: int = 0,
    btf_key_type_id: int = 0,
    btf_value_type_id: int = 0,
    btf_vmlinux_value_type_id: int = 0,
    map_extra: int = 0,
) -> Fd:
    """BPF_MAP_CREATE. Sizes in bytes; ``name`` is cut to 15 bytes as the kernel demands."""
    attr = _attr(
        "7I16s5IQ", map_type, key_size, value_size, max_entries, flags, inner_map_fd, numa_node,
        name.encode()[:15], 0, btf_fd, btf_key_type_id, btf_value_type_id,
        btf_vmlinux_value_type_id, map_extra,
    )  # fmt: skip
    return Fd(_call("MAP_CREATE", attr))


def _element(
    name: str, map_fd: int, key: Buffer | None, value: Buffer | None, flags: int = 0
) -> None:
    _call(name, _attr("IIQQQ", map_fd, 0, _address(key), _address(value), flags))


def map_lookup(map_fd: int, key: bytes, value_size: int, flags: int = 0) -> bytes | None:
    """BPF_MAP_LOOKUP_ELEM; None where there is no such key. ``value_size`` counts all CPUs of a per-CPU map."""
    key_buffer, value = _buffer(key), ctypes.create_string_buffer(max(value_size, 1))
    try:
        _element("MAP_LOOKUP_ELEM", map_fd, key_buffer, value, flags)
    except KernelError as error:
        if error.errno == errno.ENOENT:
            return None
        raise
    return value.raw[:value_size]


def map_update(map_fd: int, key: bytes, value: bytes, flags: int = 0) -> None:
    """BPF_MAP_UPDATE_ELEM."""
    key_buffer, value_buffer = _buffer(key), _buffer(value)
    _element("MAP_UPDATE_ELEM", map_fd, key_buffer if key else None, value_buffer, flags)


def map_delete(map_fd: int, key: bytes) -> None:
    """BPF_MAP_DELETE_ELEM."""
    key_buffer = _buffer(key)
    _element("MAP_DELETE_ELEM", map_fd, key_buffer, None)


def map_lookup_and_delete(map_fd: int, key: bytes, value_size: int, flags: int = 0) -> bytes | None:
    """BPF_MAP_LOOKUP_AND_DELETE_ELEM: the value that was there, or None. Of hash maps since Linux 5.14."""
    key_buffer, value = _buffer(key), ctypes.create_string_buffer(max(value_size, 1))
    try:
        _element("MAP_LOOKUP_AND_DELETE_ELEM", map_fd, key_buffer, value, flags)
    except KernelError as error:
        if error.errno == errno.ENOENT:
            return None
        raise
    return value.raw[:value_size]


def map_next_key(map_fd: int, key: bytes | None, key_size: int) -> bytes | None:
    """BPF_MAP_GET_NEXT_KEY; None after the last one, the first one for None."""
    key_buffer = None if key is None else _buffer(key)
    following = ctypes.create_string_buffer(max(key_size, 1))
    try:
        _element("MAP_GET_NEXT_KEY", map_fd, key_buffer, following)
    except KernelError as error:
        if error.errno == errno.ENOENT:
            return None
        raise
    return following.raw[:key_size]


class Batch(NamedTuple):
    """One step of a batched read: ``length`` keys and values laid end to end, and where to go on (None: done)."""

    length: int
    keys: memoryview
    values: memoryview
    cursor: bytes | None


def map_lookup_batch(
    map_fd: int, cursor: bytes | None, count: int, key_size: int, value_size: int
) -> Batch:
    """BPF_MAP_LOOKUP_BATCH (Linux 5.6, kernel commit cb4d03ab499d).

    A hash bucket that does not fit into ``count`` gives ENOSPC: call again with more.
    """
    keys = ctypes.create_string_buffer(max(count * key_size, 1))
    values = ctypes.create_string_buffer(max(count * value_size, 1))
    # The cursor of a hash map is a u32 bucket number whatever the key size is.
    following = ctypes.create_string_buffer(max(key_size, 8))
    start = None if cursor is None else _buffer(cursor.ljust(max(key_size, 8), b"\0"))
    attr = _attr(
        "QQQQIIQQ",
        _address(start),
        _address(following),
        _address(keys),
        _address(values),
        count,
        map_fd,
        0,
        0,
    )
    done = False
    try:
        _call("MAP_LOOKUP_BATCH", attr)
    except KernelError as error:
        if error.errno != errno.ENOENT:
            raise
        done = True
    found = struct.unpack_from("<I", attr, 32)[0]
    return Batch(
        found,
        memoryview(keys).cast("B")[: found * key_size],
        memoryview(values).cast("B")[: found * value_size],
        None if done else following.raw,
    )


def map_update_batch(map_fd: int, count: int, keys: bytes, values: bytes, flags: int = 0) -> int:
    """BPF_MAP_UPDATE_BATCH (Linux 5.6, kernel commit aa2e93b8e58e); how many were written."""
    key_buffer, value_buffer = _buffer(keys), _buffer(values)
    attr = _attr(
        "QQQQIIQQ", 0, 0, _address(key_buffer), _address(value_buffer), count, map_fd, flags, 0
    )
    _call("MAP_UPDATE_BATCH", attr)
    return int(struct.unpack_from("<I", attr, 32)[0])


def map_freeze(map_fd: int) -> None:
    """BPF_MAP_FREEZE (Linux 5.2): user space cannot write any more."""
    _call("MAP_FREEZE", _attr("I", map_fd))


# --- programs -----------------------------------------------------------------------------------------------


class ProgLoad(NamedTuple):
    """What BPF_PROG_LOAD takes. ``insns``, ``func_info`` and ``line_info`` are the kernel's records end to end."""

    prog_type: int
    insns: bytes
    license: str
    name: str = ""
    expected_attach_type: int = 0
    flags: int = 0
    ifindex: int = 0
    kern_version: int = 0
    btf_fd: int = 0
    func_info: bytes = b""
    line_info: bytes = b""
    attach_btf_id: int = 0
    attach_prog_fd: int = 0


FUNC_INFO_SIZE = 8  # struct bpf_func_info
LINE_INFO_SIZE = 16  # struct bpf_line_info
_INTERRUPTED_TRIES = 20


def load_patiently(attr: Buffer) -> int:
    """BPF_PROG_LOAD of what ``attr`` describes: a descriptor, or minus errno.

    A signal makes the verifier give up with EAGAIN (kernel commit c3494801cd17, Linux 5.0). Then its handler has its
    turn, which for Ctrl-C raises KeyboardInterrupt, and the program is loaded again. Signals that leave the process
    alone wait until that is done: those of a timer would come back before a large program is verified.
    """
    number = _NUMBER["PROG_LOAD"]
    result = _syscall(number, attr)
    if result != -errno.EAGAIN:
        return result
    from netbpf._sys.signals import held_back

    with held_back():
        for _ in range(_INTERRUPTED_TRIES):
            result = _syscall(number, attr)
            if result != -errno.EAGAIN:
                break
    return result


def prog_load(
    spec: ProgLoad, *, log_size: int = 0, log_level: int = 1
) -> tuple[Fd | None, int, bytes]:
    """BPF_PROG_LOAD: (program, 0, log) or (None, errno, log).

    The errno is a result and no exception here, because the log belongs to it. With ``log_size`` 0 the
    verifier writes no log, which is faster.
    """
    insns, license_text = _buffer(spec.insns), _buffer(spec.license.encode() + b"\0")
    funcs = _buffer(spec.func_info) if spec.func_info else None
    lines = _buffer(spec.line_info) if spec.line_info else None
    # Anonymous memory is there when it is written to: room for the largest log costs nothing.
    memory = mmap.mmap(-1, log_size) if log_size else None
    log = (ctypes.c_char * log_size).from_buffer(memory) if memory else None
    attr = _attr(
        "IIQQIIQII16sIIIIQIIQIII",
        spec.prog_type, len(spec.insns) // 8, _address(insns), _address(license_text),
        log_level if log_size else 0, log_size, _address(log), spec.kern_version, spec.flags,
        spec.name.encode()[:15], spec.ifindex, spec.expected_attach_type,
        spec.btf_fd, FUNC_INFO_SIZE if funcs else 0, _address(funcs), len(spec.func_info) // FUNC_INFO_SIZE,
        LINE_INFO_SIZE if lines else 0, _address(lines), len(spec.line_info) // LINE_INFO_SIZE,
        spec.attach_btf_id, spec.attach_prog_fd,
    )  # fmt: skip
    result = load_patiently(attr)
    text = b"" if log is None else ctypes.string_at(log)
    return (Fd(result), 0, text) if result >= 0 else (None, -result, text)


class TestRun(NamedTuple):
    """Result of BPF_PROG_TEST_RUN: verdict, packet afterwards, context afterwards, mean time in nanoseconds."""

    retval: int
    data: bytes
    context: bytes
    duration_ns: int


def prog_test_run(
    prog_fd: int,
    data: bytes,
    *,
    data_out_size: int = 0,
    repeat: int = 1,
    context: bytes = b"",
    context_out_size: int = 0,
    flags: int = 0,
    batch_size: int = 0,
) -> TestRun:
    """BPF_PROG_TEST_RUN. Sizes in bytes; ``context`` is a struct xdp_md or __sk_buff (Linux 5.15, 5.2).

    ``duration_ns`` of the result is the mean of ``repeat`` runs. Packets under 14 bytes give EINVAL, ENOSPC means that
    the program ran and the packet has become longer than ``data_out_size`` (kernel net/bpf/test_run.c).
    """
    data_in = _buffer(data) if data else None
    data_out = ctypes.create_string_buffer(data_out_size) if data_out_size else None
    context_in = _buffer(context) if context else None
    context_out = ctypes.create_string_buffer(context_out_size) if context_out_size else None
    attr = _attr(
        "IIIIQQIIIIQQIII",
        prog_fd, 0, len(data), data_out_size, _address(data_in), _address(data_out), repeat, 0,
        len(context), context_out_size, _address(context_in), _address(context_out), flags, 0, batch_size,
    )  # fmt: skip
    _call("PROG_TEST_RUN", attr)
    _, retval, _, out_size, _, _, _, duration, _, context_size = struct.unpack_from(
        "<IIIIQQIIII", attr
    )
    return TestRun(
        retval,
        b"" if data_out is None else ctypes.string_at(data_out, out_size),
        b"" if context_out is None else ctypes.string_at(context_out, context_size),
        duration,
    )


def prog_bind_map(prog_fd: int, map_fd: int) -> None:
    """BPF_PROG_BIND_MAP (Linux 5.10): the program holds the map though no instruction names it."""
    _call("PROG_BIND_MAP", _attr("III", prog_fd, map_fd, 0))


# --- BTF, pins, ids, information -----------------------------------------------------------------------------


def btf_load(data: bytes, *, log_size: int = 0) -> tuple[Fd | None, int, bytes]:
    """BPF_BTF_LOAD: (BTF, 0, log) or (None, errno, log)."""
    blob = _buffer(data)
    log = ctypes.create_string_buffer(log_size) if log_size else None
    attr = _attr("QQIII", _address(blob), _address(log), len(data), log_size, 1 if log_size else 0)
    result = _syscall(_NUMBER["BTF_LOAD"], attr)
    text = b"" if log is None else log.value
    return (Fd(result), 0, text) if result >= 0 else (None, -result, text)


def obj_pin(path: str, fd: int) -> None:
    """BPF_OBJ_PIN. The kernel refuses names with a dot (EPERM, kernel/bpf/inode.c bpf_lookup)."""
    name = _buffer(path.encode() + b"\0")
    _call("OBJ_PIN", _attr("QII", _address(name), fd, 0))


def obj_get(path: str, flags: int = 0) -> Fd:
    """BPF_OBJ_GET. Follows symbolic links: check the path first."""
    name = _buffer(path.encode() + b"\0")
    return Fd(_call("OBJ_GET", _attr("QII", _address(name), 0, flags)))


def next_id(kind: str, start: int) -> int | None:
    """The next id of a kind ("PROG", "MAP", "BTF", "LINK") after ``start``; None after the last. CAP_SYS_ADMIN."""
    attr = _attr("II", start, 0)
    try:
        _call(f"{kind}_GET_NEXT_ID", attr)
    except KernelError as error:
        if error.errno == errno.ENOENT:
            return None
        raise
    return int(struct.unpack_from("<I", attr, 4)[0])


def fd_by_id(kind: str, number: int) -> Fd:
    """Open a "PROG", "MAP", "BTF" or "LINK" by its id. Needs CAP_SYS_ADMIN (or CAP_BPF for some kinds)."""
    if not 0 < number < 1 << 32:
        raise KernelError(f"BPF_{kind}_GET_FD_BY_ID", errno.ENOENT)
    return Fd(_call(f"{kind}_GET_FD_BY_ID", _attr("III", number, 0, 0)))


def info_by_fd(fd: int, info: Buffer, size: int) -> int:
    """BPF_OBJ_GET_INFO_BY_FD into ``info`` (pointers in it are followed); the length the kernel filled."""
    attr = _attr("IIQ", fd, size, _address(info))
    _call("OBJ_GET_INFO_BY_FD", attr)
    return int(struct.unpack_from("<I", attr, 4)[0])


class RunStats:
    """Kernel run statistics (``run_cnt``, ``run_time_ns``), counted while this object is open.

    BPF_ENABLE_STATS (Linux 5.8, kernel commit d46edd671a14): no sysctl is changed, and the kernel stops
    counting when the descriptor is closed, also by kill -9.
    """

    def __init__(self) -> None:
        self.fd = Fd(_call("ENABLE_STATS", _attr("I", 0)))

    def close(self) -> None:
        self.fd.close()


# --- links ---------------------------------------------------------------------------------------------------


def link_create(
    prog_fd: int,
    ifindex: int,
    attach_type: int,
    *,
    flags: int = 0,
    relative_fd: int = 0,
    expected_revision: int = 0,
) -> Fd:
    """BPF_LINK_CREATE for XDP (Linux 5.9) and TCX (Linux 6.6). ``relative_fd`` and the revision are TCX only.

    For cgroups and network namespaces (Linux 5.7) ``ifindex`` is a descriptor, for performance events too (5.15).
    """
    attr = _attr("IIIIIIQ", prog_fd, ifindex, attach_type, flags, relative_fd, 0, expected_revision)
    return Fd(_call("LINK_CREATE", attr))


def link_create_kprobes(
    prog_fd: int, attach_type: int, symbols: tuple[str, ...], *, returning: bool = False
) -> Fd:
    """BPF_LINK_CREATE on the entry, or the return, of many kernel functions (Linux 5.18)."""
    names = [_buffer(one.encode() + b"\0") for one in symbols]
    array = (ctypes.c_uint64 * max(len(names), 1))(*map(ctypes.addressof, names))
    attr = _attr(
        "IIIIIIQ", prog_fd, 0, attach_type, 0, int(returning), len(names), ctypes.addressof(array)
    )
    return Fd(_call("LINK_CREATE", attr))


def raw_tracepoint_open(prog_fd: int, name: str | None) -> Fd:
    """BPF_RAW_TRACEPOINT_OPEN (Linux 4.17): a link; None attaches to what the program was loaded for (5.5)."""
    text = None if name is None else _buffer(name.encode() + b"\0")
    return Fd(_call("RAW_TRACEPOINT_OPEN", _attr("QI", _address(text), prog_fd)))


def link_update(link_fd: int, prog_fd: int, *, old_prog_fd: int | None = None) -> None:
    """BPF_LINK_UPDATE; with ``old_prog_fd`` only if that program is still on the link (BPF_F_REPLACE)."""
    flags = 0 if old_prog_fd is None else 1 << 2
    _call("LINK_UPDATE", _attr("IIII", link_fd, prog_fd, flags, old_prog_fd or 0))


def link_detach(link_fd: int) -> None:
    """BPF_LINK_DETACH (Linux 5.9): the link stays, attached to nothing."""
    _call("LINK_DETACH", _attr("I", link_fd))


class Query(NamedTuple):
    """BPF_PROG_QUERY of a TCX hook: programs in running order, the link of each (0: no link), and the revision."""

    prog_ids: tuple[int, ...]
    link_ids: tuple[int, ...]
    revision: int


def prog_query(ifindex: int, attach_type: int) -> Query:
    """BPF_PROG_QUERY for TCX (Linux 6.6, kernel commit 053c8e1f235d). EINVAL where the kernel has no TCX."""
    count = 64
    while True:
        ids = (ctypes.create_string_buffer(4 * count), ctypes.create_string_buffer(4 * count))
        attr = _attr(
            "IIIIQIIQQQQ",
            ifindex,
            attach_type,
            0,
            0,
            _address(ids[0]),
            count,
            0,
            0,
            _address(ids[1]),
            0,
            0,
        )
        try:
            _call("PROG_QUERY", attr)
        except KernelError as error:
            if error.errno != errno.ENOSPC:
                raise
            count *= 4
            continue
        found = struct.unpack_from("<I", attr, 24)[0]
        programs, links = (struct.unpack_from(f"<{found}I", one) for one in ids)
        return Query(programs, links, struct.unpack_from("<Q", attr, 56)[0])


def prog_detach(ifindex: int, prog_fd: int, attach_type: int, expected_revision: int = 0) -> None:
    """BPF_PROG_DETACH of a TCX program that has no link."""
    _call(
        "PROG_DETACH", _attr("IIIIIIQ", ifindex, prog_fd, attach_type, 0, 0, 0, expected_revision)
    )
