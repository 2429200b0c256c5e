"""What this kernel has of BPF, asked of bpf(2): program types, helpers, map types.

Nothing is guessed from the kernel's version: distributions carry parts of later kernels, and configurations leave parts
out. A program of two instructions is loaded, a map of one entry is made, and both are thrown away at once. ``inspect``
and ``features`` ask by the same functions.
"""

import errno
import struct
from typing import Final, NamedTuple

from netbpf._sys import bpf as sys_bpf
from netbpf._sys.memlock import without_memlock_limit
from netbpf._sys.probing import Answer, ProgramProbe
from netbpf.bpf.mapdefs import RINGS
from netbpf.constants import AttachType, MapFlag, MapType, ProgFlag, ProgType
from netbpf.errors import KernelError

ENOTSUPP: Final = 524  # the kernel's own (include/linux/errno.h), unknown to libc
EXIT: Final = bytes((0x95, 0, 0, 0, 0, 0, 0, 0))
RETURN_ONE: Final = bytes((0xB7, 0, 0, 0, 1, 0, 0, 0)) + EXIT
_CALL: Final = 0x85

# Loading them takes the BTF id of what they are attached to.
OF_ONE_PLACE: Final = frozenset({
    ProgType.UNSPEC, ProgType.TRACING, ProgType.STRUCT_OPS, ProgType.EXT, ProgType.LSM,
})  # fmt: skip
# kernel/bpf/verifier.c check_helper_call, Linux 4.14 to 6.18. Before 6.8 "unknown func" stood for both: no such helper
# in this kernel, and none for programs of this type.
_ABSENT: Final = (b"invalid func",)
_UNKNOWN: Final = (b"unknown func",)
_FORBIDDEN: Final = (b"cannot use helper", b"helper call is not allowed")
_SLEEPS: Final = (b"might sleep in a non-sleepable", b"sleepable helper")

# What may fail whatever is asked for: no permission, memory or descriptors, or signals without end (EAGAIN).
NO_ANSWER: Final = frozenset({errno.EPERM, errno.ENOMEM, errno.EAGAIN, errno.EMFILE, errno.ENFILE})

# The attach type without which some types do not load (bpf_prog_load_check_attach).
_FIRST_ATTACH: Final = {
    ProgType.XDP: AttachType.XDP,
    ProgType.CGROUP_SOCK: AttachType.CGROUP_INET_SOCK_CREATE,
    ProgType.CGROUP_SOCK_ADDR: AttachType.CGROUP_INET4_CONNECT,
    ProgType.CGROUP_SOCKOPT: AttachType.CGROUP_GETSOCKOPT,
    ProgType.SK_LOOKUP: AttachType.SK_LOOKUP,
    ProgType.SK_REUSEPORT: AttachType.SK_REUSEPORT_SELECT,
    ProgType.NETFILTER: AttachType.NETFILTER,
    ProgType.TRACING: AttachType.TRACE_FENTRY,
    ProgType.LSM: AttachType.LSM_MAC,
}


class Told(NamedTuple):
    """Whether it is there, None where the kernel does not tell; and in words why not, or under which condition."""

    here: bool | None
    why: str = ""


def first_attach(kind: int) -> int:
    """An attach type with which programs of a type load."""
    return next((int(at) for one, at in _FIRST_ATTACH.items() if one == kind), 0)


def load_flags(kind: int) -> int:
    """The flags without which programs of a type do not load."""
    return int(ProgFlag.SLEEPABLE) if kind == ProgType.SYSCALL else 0


def program_type(probe: ProgramProbe, kind: int, attach: int, btf_id: int = 0) -> Told:
    """Whether the kernel has a program type, with an attach type."""
    # Most types take 0 or 1 as result; where one takes neither, the verifier's words show that it knew the type.
    answer = probe.ask(kind, RETURN_ONE, attach, flags=load_flags(kind), attach_btf_id=btf_id)
    if answer.loaded or answer.log:
        return Told(True)
    if answer.errno == ENOTSUPP:
        return Told(True)
    if answer.errno == errno.EPERM:
        return Told(None, "the kernel permits no such program here (EPERM)")
    if answer.errno in NO_ANSWER:
        return Told(None, f"the kernel gave no answer ({errno.errorcode[answer.errno]})")
    return Told(False, "this kernel does not have it")


def helper(
    probe: ProgramProbe, number: int, kind: int, attach: int, btf_id: int = 0, *, flags: int = 0
) -> Told:
    """Whether programs of a type may call a helper."""
    code = bytes((_CALL, 0, 0, 0)) + (number & 0xFFFFFFFF).to_bytes(4, "little") + EXIT
    return _helper_words(
        probe.ask(kind, code, attach, flags=flags or load_flags(kind), attach_btf_id=btf_id), kind
    )


def _helper_words(answer: Answer, kind: int) -> Told:
    log = answer.log
    if answer.loaded:
        return Told(True)
    if any(words in log for words in _ABSENT):
        return Told(False, "this kernel does not have it")
    if any(words in log for words in _UNKNOWN):
        return Told(False, f"this kernel does not have it for {type_word(kind)} programs")
    if any(words in log for words in _FORBIDDEN):
        return Told(False, f"{type_word(kind)} programs may not call it")
    if any(words in log for words in _SLEEPS):
        return Told(True, "only in sleepable programs")
    if b"GPL" in log:
        return Told(False, "only programs under the GPL may call it")
    # The verifier came as far as the arguments, so it knows the helper.
    return Told(True if log and answer.errno not in NO_ANSWER else None)


def xdp_frags(probe: ProgramProbe) -> bool | None:
    """Whether XDP programs may take packets in several parts (BPF_F_XDP_HAS_FRAGS, Linux 5.18)."""
    answer = probe.ask(ProgType.XDP, RETURN_ONE, AttachType.XDP, flags=ProgFlag.XDP_HAS_FRAGS)
    return None if answer.errno in NO_ANSWER else answer.loaded


def large_programs() -> bool | None:
    """Whether programs may have more than 4096 instructions (Linux 5.2, for those with CAP_BPF)."""
    code = RETURN_ONE[:8] * 4096 + EXIT
    # Without a log: it would not hold the verifier's words about so many.
    fd, number, _ = sys_bpf.prog_load(sys_bpf.ProgLoad(ProgType.SOCKET_FILTER, code, "GPL"))
    if fd:
        fd.close()
    return None if number in NO_ANSWER else fd is not None


def type_word(kind: int) -> str:
    """The kernel's name of a program type in lower case."""
    try:
        return ProgType(kind).name.lower()
    except ValueError:
        return f"type {kind}"


def kernel_function(
    probe: ProgramProbe, btf_id: int, kind: int, attach: int, *, attach_btf_id: int = 0, module_fd: int = -1
) -> Told:  # fmt: skip
    """Whether programs of a type may call a kernel function (kfunc, Linux 5.13), by its BTF id."""
    code = struct.pack("<BBhi", _CALL, 2 << 4, 0 if module_fd < 0 else 1, btf_id) + EXIT
    answer = probe.ask(
        kind, code, attach, flags=load_flags(kind), attach_btf_id=attach_btf_id, module_fd=module_fd
    )
    log = answer.log
    if answer.loaded:
        return Told(True)
    for words, why in _KFUNC_REFUSALS:
        if words in log:
            return Told(False, why.format(type_word(kind)))
    if b"must be sleepable" in log:
        return Told(True, "only in sleepable programs")
    return Told(True if log and answer.errno not in NO_ANSWER else None)


# kernel/bpf/verifier.c add_kfunc_call and check_kfunc_call
_KFUNC_REFUSALS: Final = (
    (b"is not allowed", "{} programs may not call it"),
    (b"cannot find address", "this kernel does not have its code"),
    (b"is not a function", "this kernel does not have it"),
    (b"is not supported", "this kernel lets no program call its functions"),
    (b"JIT is required", "it needs the JIT: sysctl net.core.bpf_jit_enable=1"),
    (b"invalid func", "this kernel lets no program call its functions"),
    (b"BPF_CALL uses reserved fields", "this kernel lets no program call its functions"),
)


# --- maps ---


class _Shape(NamedTuple):
    """What BPF_MAP_CREATE wants of a type: sizes in bytes."""

    key: int = 4
    value: int = 4
    entries: int = 1
    flags: int = 0
    typed: bool = False  # with BTF of key and value
    inner: bool = False  # with a map as the example of those in it


_STORAGE: Final = _Shape(entries=0, flags=MapFlag.NO_PREALLOC, typed=True)
_SHAPES: Final = {
    MapType.STACK_TRACE: _Shape(value=8),
    MapType.LPM_TRIE: _Shape(key=8, flags=MapFlag.NO_PREALLOC),
    MapType.ARRAY_OF_MAPS: _Shape(inner=True),
    MapType.HASH_OF_MAPS: _Shape(inner=True),
    MapType.CGROUP_STORAGE: _Shape(key=16, value=8, entries=0),  # struct bpf_cgroup_storage_key
    MapType.PERCPU_CGROUP_STORAGE: _Shape(key=16, value=8, entries=0),
    MapType.REUSEPORT_SOCKARRAY: _Shape(value=8),
    MapType.QUEUE: _Shape(key=0),
    MapType.STACK: _Shape(key=0),
    MapType.SK_STORAGE: _STORAGE,
    MapType.INODE_STORAGE: _STORAGE,
    MapType.TASK_STORAGE: _STORAGE,
    MapType.CGRP_STORAGE: _STORAGE,
    MapType.BLOOM_FILTER: _Shape(key=0),
    MapType.ARENA: _Shape(key=0, value=0, flags=MapFlag.MMAPABLE),
}
# BTF of one type: int, 4 bytes, signed. Types 1 for key and value.
_INT_TYPE: Final = struct.pack("<IIII", 1, 1 << 24, 4, 1 << 24 | 32)
_INT_BTF: Final = (
    struct.pack("<HBBIIIII", 0xEB9F, 1, 0, 24, 0, len(_INT_TYPE), len(_INT_TYPE), 5)
    + _INT_TYPE
    + b"\0int\0"
)


def map_type(number: int) -> Told:
    """Whether the kernel makes maps of a type: one is made, as small as can be."""
    try:
        without_memlock_limit(lambda: _make(number))
    except KernelError as error:
        if number == MapType.STRUCT_OPS and error.errno == ENOTSUPP:
            return Told(True)  # type 1 of the kernel is no table of functions, but it was looked up
        if error.errno == errno.EPERM:
            return Told(None, "no permission to make one (EPERM)")
        if error.errno in NO_ANSWER:
            return Told(None, f"the kernel gave no answer ({errno.errorcode[error.errno]})")
        return Told(False, "this kernel does not have it")
    return Told(True)


def _make(number: int) -> None:
    kinds = {int(kind): shape for kind, shape in _SHAPES.items()}
    shape = kinds.get(number, _Shape())
    if number in RINGS:
        shape = _Shape(key=0, value=0, entries=4096)
    if number == MapType.STRUCT_OPS:
        sys_bpf.map_create(number, 4, 4, 1, btf_vmlinux_value_type_id=1).close()
        return
    if shape.inner:
        with sys_bpf.map_create(MapType.ARRAY, 4, 4, 1) as example:
            sys_bpf.map_create(number, 4, 4, 1, inner_map_fd=example.fileno()).close()
        return
    if not shape.typed:
        sys_bpf.map_create(number, shape.key, shape.value, shape.entries, flags=shape.flags).close()
        return
    types, number_of_error, _ = sys_bpf.btf_load(_INT_BTF)
    if types is None:
        raise KernelError("BPF_BTF_LOAD", number_of_error)
    with types:
        sys_bpf.map_create(
            number, shape.key, shape.value, shape.entries, flags=shape.flags, btf_fd=types.fileno(),
            btf_key_type_id=1, btf_value_type_id=1,
        ).close()  # fmt: skip
