"""Writing variables and map entries: planned, so that all are checked before the first is written, then applied."""

import mmap
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from netbpf.bpf.btf.encode import Encodable, assign, assign_text
from netbpf.bpf.btf.path import Path, Place, locate
from netbpf.bpf.btf.types import Btf
from netbpf.bpf.map import possible_cpus
from netbpf.constants import MapFlag, MapType
from netbpf.errors import NotSupportedError, UsageError
from netbpf.live.found import Found, key_of, raw, types_of
from netbpf.live.reader import OpenMap
from netbpf.text import escape


class VariableWrite(NamedTuple):
    """A value for a variable, or a part of one; ``typed`` says that it is text as a person types it."""

    map: OpenMap
    place: Place
    path: Path
    value: Encodable
    typed: bool

    def apply(self) -> None:
        """Write it."""
        btf, type_id = types_of(self.map)
        size = self.map.info.value_size
        if not self.map.info.flags & MapFlag.MMAPABLE:
            data = bytearray(self.map.map.lookup(bytes(4)) or bytes(size))
            _write(btf, type_id, data, self, "")
            self.map.map.update(bytes(4), bytes(data))
            return
        # Only the variable's own bytes are written: an update of the entry would undo what the program
        # counts in the other variables meanwhile.
        length = (size + mmap.PAGESIZE - 1) // mmap.PAGESIZE * mmap.PAGESIZE
        with mmap.mmap(self.map.map.fd.fileno(), length) as memory:
            data = bytearray(memory[:size])
            _write(btf, type_id, data, self, "")
            start, end = self.place.offset, self.place.offset + self.place.size
            memory[start:end] = bytes(data[start:end])


def _write(
    btf: Btf,
    type_id: int,
    data: bytearray,
    change: "VariableWrite | EntryWrite",
    name: str,
) -> None:
    if change.typed:
        assign_text(btf, type_id, data, change.path, str(change.value), name=name)
    else:
        assign(btf, type_id, data, change.path, change.value, name=name)


def plan_variable(found: Found, value: Encodable, typed: bool) -> VariableWrite:
    """Check a value for a variable. NotSupportedError for frozen ones, UsageError and ObjectError for misfits."""
    one = found.map
    name = escape(str(found.path))
    if one.map.frozen:
        raise NotSupportedError(
            f"{name} is in {one.name}, which is frozen since the program was loaded: the verifier relied on its value",
            hint=f"load it anew: netbpf attach ... --replace --set {name}=VALUE",
        )
    btf, type_id = types_of(one)
    place = locate(btf, type_id, found.path, size=one.info.value_size)
    change = VariableWrite(one, place, found.path, value, typed)
    before = bytearray(one.map.lookup(bytes(4)) or bytes(one.info.value_size))
    _write(btf, type_id, before, change, "")
    return change


class EntryWrite(NamedTuple):
    """A map entry as it will be: ``data`` is the whole of it, for all CPUs where each has its own."""

    map: OpenMap
    key: bytes
    path: Path
    value: Encodable
    typed: bool
    data: bytes

    def apply(self) -> None:
        """Write it. NetbpfError for a full map."""
        self.map.map.update(self.key, self.data)


def plan_entry(
    found: Found, value: Encodable, typed: bool, earlier: Mapping[tuple[int, bytes], bytes]
) -> EntryWrite:
    """Check a value for a map entry, or a part of one; ``earlier`` has what is planned already, by map id and key.

    A part is put into the entry as it is now: what the program writes into it until ``apply`` is lost.
    Raises UsageError, ObjectError, NotSupportedError.
    """
    one = found.map
    name = escape(one.name)
    if not found.path.steps:
        raise UsageError(f"{name} is a map", hint=f"name an entry: {name}[KEY]=VALUE")
    if one.map.frozen:
        raise NotSupportedError(f"map {name} is frozen: user space cannot write to it any more")
    if not one.map.readable or one.info.type in (
        MapType.PROG_ARRAY,
        MapType.PERF_EVENT_ARRAY,
        MapType.CGROUP_ARRAY,
    ):
        raise NotSupportedError(f"map {name} takes no values from a command line")
    key, rest = key_of(found), Path(found.path.steps[1:])
    size = one.info.value_size
    if one.map.per_cpu:
        return _plan_per_cpu(found, key, rest, value, typed)
    data = bytearray(size)
    if rest.steps:
        data = bytearray(earlier.get((one.info.id, key)) or one.map.lookup(key) or data)
    change = EntryWrite(one, key, rest, value, typed, b"")
    if one.btf and one.info.btf_value_type_id:
        _write(one.btf, one.info.btf_value_type_id, data, change, one.info.name)
    elif rest.steps:
        types_of(one)
    else:
        data = bytearray(raw(str(value), size, f"the value of {name}"))
    return change._replace(data=bytes(data))


def _plan_per_cpu(
    found: Found, key: bytes, rest: Path, value: Encodable, typed: bool
) -> EntryWrite:
    """A per-CPU entry takes one value per CPU, or 0 for all of them: what should one number for four CPUs mean?"""
    one, cpus = found.map, possible_cpus()
    name = escape(one.name)
    btf, type_id = types_of(one)
    if rest.steps:
        raise UsageError(
            f"map {name} keeps a value per CPU; parts of them cannot be written one by one"
        )
    if typed:
        from netbpf.bpf.btf.literal import parse_literal

        value = parse_literal(str(value)) if str(value).startswith("[") else str(value)
    if value in ("0", 0):
        values: Sequence[Encodable] = [None] * cpus
    elif isinstance(value, list | tuple) and len(value) == cpus:
        values = value
    else:
        raise UsageError(
            f"map {name} keeps a value per CPU, and there are {cpus} CPUs",
            hint=f"give a list of {cpus} values, or 0 to clear them all",
        )
    stride, size = one.map.stride, one.info.value_size
    out = b""
    for each in values:
        data = bytearray(size)
        if each is not None:
            assign(btf, type_id, data, Path(), each, name=one.info.name)
        out += bytes(data).ljust(stride, b"\0")
    return EntryWrite(one, key, rest, value, typed, out)
