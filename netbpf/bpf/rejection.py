"""What a verifier log says in the end, and the error that comes of it."""

import errno
import re
from pathlib import Path

from netbpf._sys.bpf import ProgLoad
from netbpf._sys.capabilities import Capability, missing, permission_error
from netbpf.bpf import insn as bpf
from netbpf.bpf.linker import Image
from netbpf.bpf.object import ObjectSpec
from netbpf.constants import ProgFlag
from netbpf.errors import (
    KernelError,
    NetbpfError,
    NotSupportedError,
    ObjectError,
    VerifierError,
)
from netbpf.explain import explain_log
from netbpf.explain.log import parse
from netbpf.explain.model import CodeLine, RejectedCode
from netbpf.text import escape

# What the verifier forbids only without CAP_PERFMON (kernel/bpf/verifier.c, env->allow_ptr_leaks).
_POINTERS = re.compile(
    r"pointer \S+ pointer prohibited|pointer (comparison|arithmetic) prohibited|prohibited for !root"
    r"|leaks addr|partial copy of pointer"
)

# Rejections (entries of netbpf.explain) that come about where the kernel did not take the object's types.
_NEED_TYPES = frozenset({"types-missing", "lock-missing", "timer-misuse", "function-argument"})
_TAIL = 1 << 16  # characters at the end of a log that say why; logs may have hundreds of megabytes
_MOST_LINES = 3


def reason(log: str) -> str:
    """The verifier's own last words on why it gave up, without states and statistics; "" where it said nothing."""
    # Lines that follow each other belong together: "invalid access to packet", then which register.
    return "; ".join(line.strip() for line in parse(log).words[-_MOST_LINES:])


def last_source(log: str) -> str:
    """The C line the verifier looked at last, with file and line where the log has them; "" without line info."""
    step = parse(log).last
    if step is None or step.source is None:
        return ""
    file, line, text = step.source
    return f"{file}:{line}: {text}" if file else text


def explain(
    name: str, request: ProgLoad, number: int, log: str, *, types_refused: str = ""
) -> NetbpfError:
    """The error for a BPF_PROG_LOAD that failed with errno ``number``; ``name`` says in words which program it was.

    ``types_refused`` is why the kernel did not take the object's BTF, "" where it did.
    """
    words = reason(log)
    if _POINTERS.search(words) and missing(Capability.PERFMON):
        return permission_error(
            f"load {name}, which computes with pointers ({escape(words)})", Capability.PERFMON
        )
    if words:
        source = last_source(log)
        at = f" (at {escape(source)})" if source else ""
        advice = "-v shows the whole verifier log"
        if types_refused:
            advice = (
                f"it may be because the kernel does not take the object's types: {types_refused}"
            )
        return VerifierError(
            f"the verifier rejects {name}: {escape(words)}{at}",
            log=log,
            hint=advice,
            errno=number,
        )
    if request.attach_btf_id and not missing(Capability.BPF, Capability.PERFMON):
        return NotSupportedError(
            f"this kernel does not load {name}: {KernelError('BPF_PROG_LOAD', number).message}",
            hint="programs on kernel functions need BPF trampolines, and security hooks CONFIG_BPF_LSM; "
            "lockdown forbids both",
        )
    if number == errno.EPERM:
        return permission_error(f"load {name}", Capability.BPF, Capability.NET_ADMIN)
    if number == errno.E2BIG:
        insns = len(request.insns) // bpf.SIZE
        return VerifierError(f"{name} is too large: {insns} instructions", log=log, errno=number)
    if number == errno.EINVAL and request.flags & ProgFlag.XDP_HAS_FRAGS:
        return NotSupportedError(
            f"this kernel does not load {name} with xdp.frags (Linux 5.18 does)"
        )
    cause = KernelError("BPF_PROG_LOAD", number)
    if number in (errno.ENOMEM, errno.EAGAIN, errno.EINTR, errno.EMFILE, errno.ENFILE):
        return NetbpfError(f"cannot load {name}: {cause.message}")
    return VerifierError(f"the kernel refuses {name}: {cause.message}", log=log, errno=number)


def code_of(image: Image, spec: ObjectSpec, program: str, kind: str) -> RejectedCode:
    """What the instructions of a linked program come from; ``kind`` is "xdp", "tc" or ""."""
    functions = tuple(sorted((one.at, one.function.name) for one in image.functions))
    lines = []
    if spec.btf is not None:
        for line in sorted(image.lines):
            try:
                file, text = spec.btf.string(line.file_off), spec.btf.string(line.text_off)
            except ObjectError:
                continue  # a line whose strings do not exist explains nothing, and harms nothing
            lines.append(CodeLine(line.at, file, line.line_col >> 10, text))
    return RejectedCode(program, kind, tuple(lines), functions)


def taught(
    error: VerifierError, name: str, code: RejectedCode, *, types_refused: bool
) -> VerifierError:
    """The error with the plain reason in place of the verifier's words, where there is one; ``name`` as above."""
    found = explain_log(error.log or error.message, code)
    message, hint = error.message, error.hint
    if found.known:
        place = found.excerpt.place if found.excerpt else None
        at = f" ({escape(Path(place.file).name)}:{place.line})" if place and place.line else ""
        message = f"the verifier rejects {name}: {escape(found.reason)}{at}"
        hint = error.hint if types_refused and found.id in _NEED_TYPES else escape(found.advice)
    return VerifierError(message, log=error.log, hint=hint, errno=error.errno, code=code)


# check_btf_func() and check_btf_line() of kernel/bpf/verifier.c speak before any instruction is looked at.
_ABOUT_TYPES = re.compile(r"func[_ ]info|line_info|subprog layout|invalid type id \d+ in func info")


def about_types(log: str) -> bool:
    """Whether what the kernel refuses is what the object says of its functions and lines, not its instructions."""
    first = log[:_TAIL].splitlines()[:2]
    return any(_ABOUT_TYPES.search(line) and not line.startswith(";") for line in first)
