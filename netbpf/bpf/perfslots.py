"""Which slots of a perf event array are taken, asked without changing anything.

bpf(2) does not tell: such a map has no lookup. A program does: bpf_perf_event_read_value() gives ENOENT for an empty
slot and something else for a full one (kernel/trace/bpf_trace.c, get_map_perf_counter). So seven instructions
are run, once for each slot, as a raw tracepoint program by BPF_PROG_TEST_RUN (Linux 5.10), attached to nothing.
"""

import errno
import struct
from collections.abc import Iterable

from netbpf._sys import bpf as sys_bpf
from netbpf._sys.capabilities import Capability, permission_error
from netbpf.bpf.map import Map
from netbpf.constants import ProgType
from netbpf.errors import KernelError

_READ_VALUE = 55  # BPF_FUNC_perf_event_read_value
_MAP_FD = 1  # BPF_PSEUDO_MAP_FD


def occupied(opened: Map, slots: Iterable[int]) -> list[int]:
    """Those of the slots that have an event. Raises PermissionDeniedError without CAP_BPF and CAP_PERFMON."""
    code = b"".join(
        struct.pack("<BBhi", *fields)
        for fields in (
            (0x79, 0x12, 0, 0),  # r2 = the first word of the context: the slot
            (0x18, _MAP_FD << 4 | 1, 0, opened.fd.fileno()),  # r1 = the map
            (0, 0, 0, 0),
            (0xBF, 0xA3, 0, 0),  # r3 = r10
            (0x07, 0x03, 0, -24),  # r3 += -24: room for struct bpf_perf_event_value
            (0xB7, 0x04, 0, 24),  # r4 = 24
            (0x85, 0x00, 0, _READ_VALUE),
            (0x95, 0x00, 0, 0),
        )
    )
    spec = sys_bpf.ProgLoad(ProgType.RAW_TRACEPOINT, code, "GPL", "slots")
    program, code_of_failure, log = sys_bpf.prog_load(spec)
    if program is None:
        if code_of_failure == errno.EPERM:
            needed = Capability.BPF, Capability.PERFMON
            raise permission_error("look who reads a perf buffer", *needed)
        raise KernelError("BPF_PROG_LOAD", code_of_failure, log.decode(errors="replace"))
    with program:
        return [slot for slot in slots if _full(program.fileno(), slot)]


def _full(program: int, slot: int) -> bool:
    context = struct.pack("<Q", slot)
    result = sys_bpf.prog_test_run(program, b"", repeat=0, context=context).retval
    return result != (-errno.ENOENT) & 0xFFFFFFFF
