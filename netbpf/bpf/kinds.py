"""What the kernel is told of a program when it is loaded: its type, where it is meant to be attached, its flags."""

from typing import NamedTuple

from netbpf.bpf.object import ProgramSpec
from netbpf.bpf.sections import Declared
from netbpf.bpf.targets import target
from netbpf.constants import AttachType, Hook, ProgFlag, ProgType
from netbpf.errors import NotSupportedError, ObjectError
from netbpf.text import escape

_OF_ONE_PLACE = (ProgType.UNSPEC, ProgType.TRACING, ProgType.LSM)


class LoadKind(NamedTuple):
    """The fields of BPF_PROG_LOAD that say what a program is."""

    type: ProgType
    attach_type: AttachType = AttachType.NONE
    flags: int = 0
    attach_btf_id: int = 0


def kind_of(program: ProgramSpec, hook: Hook | None, origin: str) -> LoadKind:
    """What to load a program as: for a network hook whatever its section, for None what its section says.

    Raises ObjectError for a section that says nothing, NotSupportedError where the kernel lacks what is traced.
    """
    if hook is Hook.XDP or (hook is None and program.declared.type is ProgType.XDP):
        return _xdp(program.declared)
    if hook is not None or program.declared.type is ProgType.SCHED_CLS:
        return LoadKind(ProgType.SCHED_CLS)
    wanted = target(program.section)
    name = f"program {escape(program.name)} of {origin}"
    # Some load without saying where they will be attached: what others jump to.
    if wanted and wanted.missing and wanted.type in _OF_ONE_PLACE:
        raise ObjectError(f"{name} (section {escape(program.section)}) needs {wanted.missing}")
    if wanted is None:
        raise ObjectError(f"section {escape(program.section)} does not say what {name} is")
    number = _btf_id(wanted.btf_name, wanted.name, name) if wanted.btf_name else 0
    return LoadKind(wanted.type, wanted.expected, wanted.flags, number)


def _xdp(declared: Declared) -> LoadKind:
    # libbpf sets BPF_XDP for every XDP program; prog arrays compare it since Linux 6.17.
    kind = declared.attach_type or AttachType.XDP
    return LoadKind(ProgType.XDP, kind, declared.flags & ProgFlag.XDP_HAS_FRAGS)


def _btf_id(btf_name: str, shown: str, program: str) -> int:
    from netbpf.bpf.btf.kernel import kernel_btf
    from netbpf.bpf.btf.types import Kind

    # Tracepoints are typedefs of their function's pointer, everything else functions.
    kind = Kind.TYPEDEF if btf_name.startswith("btf_trace_") else Kind.FUNC
    found = kernel_btf().find(btf_name, kind)
    if not found:
        raise NotSupportedError(
            f"this kernel has no {escape(shown)}, to which {program} is to be attached",
            hint="it may be called otherwise here, be inlined, or be in a module",
        )
    return found[0].id
