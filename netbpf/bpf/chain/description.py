"""What a chain says of itself, for the day the records are lost.

It is the first string of the chain's BTF, which the kernel keeps with the program and gives back unchanged. No type
names it, so every kernel that takes BTF takes it.
"""

import json
from typing import Any

from netbpf.bpf.program import btf_by_id
from netbpf.errors import NetbpfError
from netbpf.model import ProgramInfo

_MARK = "netbpf.chain/1 "
_LARGEST = 4 << 20  # bytes; the kernel takes 16 MB of BTF in all


def text(counters: int, data: object) -> str:
    """The string for a chain that counts in the map with id ``counters``; ``data`` is what JSON takes."""
    written = json.dumps([counters, data], separators=(",", ":"))
    return _MARK + written if len(written) < _LARGEST else ""


def read(info: ProgramInfo) -> tuple[int, Any] | None:
    """The id of the counters and the data of a chain, or None where a program says nothing of the kind."""
    try:
        btf = btf_by_id(info.btf_id)
    except NetbpfError:
        return None
    if btf is None:
        return None
    raw = btf.strings[1 : btf.strings.find(b"\0", 1)]
    mark = _MARK.encode()
    if not raw.startswith(mark):
        return None
    try:
        counters, data = json.loads(raw[len(mark) :])
    except (ValueError, TypeError, RecursionError):
        return None
    return (counters, data) if type(counters) is int else None
