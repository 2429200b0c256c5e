"""What a verifier log says in the end, and the error that comes of it."""

import errno
import re

from netbpf._sys.bpf import ProgLoad
from netbpf._sys.capabilities import Capability, permission_error
from netbpf.bpf import insn as bpf
from netbpf.constants import ProgFlag
from netbpf.errors import KernelError, NetbpfError, NotSupportedError, VerifierError
from netbpf.text import escape

_STATISTICS = re.compile(
    r"^(processed \d+ insns|verification time|stack depth|max_states_per_insn|mark_precise|peak_states)"
)
_SOURCE = re.compile(r"^; (?P<text>.*?)(?: @ (?P<file>[^@]*):(?P<line>\d+))?$")
_STATE = re.compile(
    r"^(\d+: \(|from \d+|R\d+[_=(]|\s*$|func#|arg#|Live regs|-- BEGIN|-- END|Global function|Func#|Validating|\d+: R)"
)


_TAIL = 1 << 16  # characters at the end of a log that say why; logs may have hundreds of megabytes
_MOST_LINES = 3
_HINTS = (
    (
        r"GPL.*(restricted|only)|GPL-compatible",
        'say what licence it has: char _license[] SEC("license") = "GPL";',
    ),
    (r"^R0 !read_ok", "every way through the program must return a verdict"),
    (r"invalid access to packet", "compare the pointer with data_end before each access"),
    (r"_or_null'", "compare the pointer with NULL before using it"),
    (
        r"too large\. Processed|back-edge|infinite loop|too many states",
        "bound the loop by a constant, or use bpf_loop()",
    ),
    (r"stack", "a program has 512 bytes of stack, shared with the functions it calls: use a map"),
    (
        r"unknown func|func unknown#|program of this type cannot use helper",
        "bpf-helpers(7) lists what each program type can call, and since when",
    ),
)


def hint(words: str) -> str | None:
    """What usually helps against a verifier's reason."""
    return next((advice for pattern, advice in _HINTS if re.search(pattern, words)), None)


def _ending(log: str) -> list[str]:
    return log[-_TAIL:].splitlines()


def reason(log: str) -> str:
    """The verifier's own last words on why it gave up, without states and statistics; "" for an empty log."""
    words: list[str] = []
    said = False
    for line in _ending(log):
        if _STATISTICS.match(line):
            continue
        says = not _SOURCE.match(line) and not _STATE.match(line)
        if says:
            # Lines that follow each other belong together: "invalid access to packet", then which register.
            words = [*words, line.strip()] if said else [line.strip()]
        said = says
    return "; ".join(words[-_MOST_LINES:])


def last_source(log: str) -> str:
    """The C line the verifier looked at last, with file and line where the log has them; "" without line info."""
    for line in reversed(_ending(log)):
        found = _SOURCE.match(line)
        if found and found["text"].strip():
            where = f"{found['file']}:{found['line']}: " if found["file"] else ""
            return where + found["text"].strip()
    return ""


def tail(log: str, lines: int = 12) -> list[str]:
    """The last lines before the statistics: what to show when nothing better is known."""
    kept = [line.rstrip() for line in _ending(log) if line.strip() and not _STATISTICS.match(line)]
    return kept[-lines:]


def explain(
    name: str, request: ProgLoad, number: int, log: str, *, types_refused: str = ""
) -> NetbpfError:
    """The error for a BPF_PROG_LOAD that failed with errno ``number``; ``name`` says in words which program it was.

    ``types_refused`` is why the kernel did not take the object's BTF, "" where it did.
    """
    words = reason(log)
    if words:
        source = last_source(log)
        at = f" (at {escape(source)})" if source else ""
        advice = hint(words) or "-v shows the whole verifier log"
        if types_refused:
            advice = (
                f"it may be because the kernel does not take the object's types: {types_refused}"
            )
        return VerifierError(
            f"the verifier rejects {name}: {escape(words)}{at}", log=log, hint=advice
        )
    if number == errno.EPERM:
        return permission_error(f"load {name}", Capability.BPF, Capability.NET_ADMIN)
    if number == errno.E2BIG:
        insns = len(request.insns) // bpf.SIZE
        return VerifierError(f"{name} is too large: {insns} instructions", log=log)
    if number == errno.EINVAL and request.flags & ProgFlag.XDP_HAS_FRAGS:
        return NotSupportedError(
            f"this kernel does not load {name} with xdp.frags (Linux 5.18 does)"
        )
    cause = KernelError("BPF_PROG_LOAD", number)
    if number in (errno.ENOMEM, errno.EAGAIN, errno.EINTR):
        return NetbpfError(f"cannot load {name}: {cause.message}")
    return VerifierError(f"the kernel refuses {name}: {cause.message}", log=log)


# check_btf_func() and check_btf_line() of kernel/bpf/verifier.c speak before any instruction is looked at.
_ABOUT_TYPES = re.compile(r"func[_ ]info|line_info|subprog layout|invalid type id \d+ in func info")


def about_types(log: str) -> bool:
    """Whether what the kernel refuses is what the object says of its functions and lines, not its instructions."""
    first = log[:_TAIL].splitlines()[:2]
    return any(_ABOUT_TYPES.search(line) and not line.startswith(";") for line in first)
