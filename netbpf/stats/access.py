"""Variables and map entries of attached programs by name: read them, and write them while the program runs.

A name is ``counter``, ``cfg.port``, ``ports[2]``, ``rules[10.0.0.0/8]``, ``rules[10.0.0.0/8].action``, or the same
behind the name of a program and a dot, where several programs have it.
"""

import mmap
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from typing import NamedTuple, Self

from netbpf.bpf.btf.decode import decode_place
from netbpf.bpf.btf.encode import Encodable, assign, assign_text, encode_text
from netbpf.bpf.btf.path import Index, Path, Place, locate, parse_assignment
from netbpf.bpf.btf.types import Btf
from netbpf.bpf.btf.values import Value
from netbpf.bpf.map import possible_cpus
from netbpf.constants import MapFlag, MapType
from netbpf.errors import (
    NetbpfError,
    NotAttachedError,
    NotSupportedError,
    ObjectError,
    UsageError,
)
from netbpf.model import Attachment
from netbpf.stats.reader import HookReader, OpenMap, map_type, read_map
from netbpf.text import did_you_mean, escape


class Found(NamedTuple):
    """What a name leads to: a map of a hook's program, and the path within it.

    For a variable the path begins with its name; for an entry with the key; an empty one is the whole map.
    """

    reader: HookReader
    map: OpenMap
    path: Path
    variable: bool


class Access:
    """The open programs of an interface. Close it, or use it as a context manager."""

    def __init__(self, attachments: Sequence[Attachment], interface: str) -> None:
        self.interface = interface
        with ExitStack() as undo:
            self.readers = [undo.enter_context(HookReader(one)) for one in attachments]
            self._stack = undo.pop_all()
        if not self.readers:
            self._stack.close()
            raise NotAttachedError(f"no XDP or TC program on {escape(interface)}")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    # --- names ---

    def find(self, path: Path) -> Found:
        """The one thing a path names; ObjectError with near names, UsageError naming the owners of several."""
        found = list(self._candidates(path))
        if not found and len(path.steps) > 1 and not isinstance(path.steps[1], Index):
            owner, rest = path.steps[0], Path(path.steps[1:])
            readers = [one for one in self.readers if one.program.info.name == owner]
            found = list(self._candidates(rest, readers))
        if not found:
            names = sorted(self._names())
            raise ObjectError(
                f"no variable or map {escape(str(path.steps[0]))!r} on {escape(self.interface)}",
                hint=did_you_mean(str(path.steps[0]), names, "there are"),
            )
        # Several hooks that run the same program, or share a map, have it once.
        different = {one.map.info.id for one in found}
        if len(different) > 1:
            owners = ", ".join(
                f"{escape(one.reader.program.info.name)} ({one.reader.hook}, program {one.reader.program.info.id})"
                for one in found
            )
            raise UsageError(
                f"{escape(str(path))} is in several programs on {escape(self.interface)}: {owners}",
                hint=f"say which: {found[0].reader.program.info.name}.{path}, or --hook {found[0].reader.hook}",
            )
        return found[0]

    def _candidates(
        self, path: Path, readers: Iterable[HookReader] | None = None
    ) -> Iterator[Found]:
        name = str(path.steps[0])
        for reader in self.readers if readers is None else readers:
            for one in reader.maps:
                if one.holds_variables:
                    if name in one.variable_names():
                        yield Found(reader, one, path, variable=True)
                    elif one.section is None and name == one.name:
                        yield Found(reader, one, Path(), variable=True)
                elif name == one.name:
                    yield Found(reader, one, Path(path.steps[1:]), variable=False)

    def _names(self) -> set[str]:
        return {
            name
            for reader in self.readers
            for one in reader.maps
            for name in (one.variable_names() if one.holds_variables else [one.name])
        }

    # --- reading ---

    def get(self, name: str) -> Value:
        """The value of a name; a whole map is ``[{"key", "value"}]``."""
        found = self.find(Path.parse(name))
        if found.variable:
            return _read_variable(found)
        if not found.map.map.readable:
            raise NotSupportedError(
                f"map {escape(found.map.name)} ({map_type(found.map)}) has no entries that can be looked up"
            )
        if not found.path.steps:
            entries = read_map(found.map, limit=None, skip_zeros=False, parts=False).entries
            return [{"key": entry.key, "value": entry.value} for entry in entries]
        return _read_entry(found)

    def is_map(self, name: str) -> bool:
        """Whether a name is that of a whole map, whose value is a list of its entries."""
        found = self.find(Path.parse(name))
        return not found.variable and not found.path.steps

    # --- writing ---

    def set(self, changes: Sequence[str] | Mapping[str, Encodable]) -> None:
        """Write variables and entries, all of them checked before the first is written.

        NotSupportedError for frozen data (``.rodata``), UsageError for values that do not fit.
        """
        planned: list[_VariableWrite | _EntryWrite] = []
        entries: dict[tuple[int, bytes], bytes] = {}
        items = [parse_assignment(one) for one in changes] if not isinstance(changes, Mapping) else [
            (Path.parse(name), value) for name, value in changes.items()
        ]  # fmt: skip
        typed = not isinstance(changes, Mapping)
        for path, value in items:
            found = self.find(path)
            if found.variable:
                planned.append(_plan_variable(found, value, typed))
            else:
                # Two parts of one entry: the second starts from what the first makes of it.
                change = _plan_entry(found, value, typed, entries)
                entries[found.map.info.id, change.key] = change.data
                planned.append(change)
        for write in planned:
            write.apply()


def _types(one: OpenMap) -> tuple[Btf, int]:
    if one.btf is None or not one.info.btf_value_type_id:
        raise NotSupportedError(
            f"{escape(one.name)} has no types (BTF), so its values have no names",
            hint="compile the program with -g",
        )
    return one.btf, one.info.btf_value_type_id


# --- variables ---


class _VariableWrite(NamedTuple):
    map: OpenMap
    place: Place
    path: Path
    value: Encodable
    typed: bool

    def apply(self) -> None:
        btf, type_id = _types(self.map)
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
    change: "_VariableWrite | _EntryWrite",
    name: str,
) -> None:
    if change.typed:
        assign_text(btf, type_id, data, change.path, str(change.value), name=name)
    else:
        assign(btf, type_id, data, change.path, change.value, name=name)


def _read_variable(found: Found) -> Value:
    data = found.map.map.lookup(bytes(4)) or b""
    if not found.path.steps:
        return found.map.value(data)
    btf, type_id = _types(found.map)
    return decode_place(locate(btf, type_id, found.path, size=len(data)), data)


def _plan_variable(found: Found, value: Encodable, typed: bool) -> _VariableWrite:
    one = found.map
    name = escape(str(found.path))
    if one.map.frozen:
        raise NotSupportedError(
            f"{name} is in {one.name}, which is frozen since the program was loaded: the verifier relied on its value",
            hint=f"load it anew: netbpf attach ... --replace --set {name}=VALUE",
        )
    btf, type_id = _types(one)
    place = locate(btf, type_id, found.path, size=one.info.value_size)
    change = _VariableWrite(one, place, found.path, value, typed)
    before = bytearray(one.map.lookup(bytes(4)) or bytes(one.info.value_size))
    _write(btf, type_id, before, change, "")
    return change


# --- map entries ---


class _EntryWrite(NamedTuple):
    map: OpenMap
    key: bytes
    path: Path
    value: Encodable
    typed: bool
    data: bytes

    def apply(self) -> None:
        self.map.map.update(self.key, self.data)


def _key(found: Found) -> bytes:
    one = found.map
    step = found.path.steps[0]
    if not isinstance(step, Index):
        raise UsageError(
            f"{escape(one.name)} is a map", hint=f"name an entry: {escape(one.name)}[KEY]"
        )
    if one.btf is None or not one.info.btf_key_type_id:
        return _raw(step.text, one.info.key_size, f"the key of {escape(one.name)}")
    lpm = one.info.type == MapType.LPM_TRIE
    try:
        return encode_text(
            one.btf, one.info.btf_key_type_id, step.text, name=one.info.name, lpm=lpm
        )
    except (ObjectError, UsageError) as error:
        error.message = f"the key of {error.message}"
        raise


def _raw(text: str, size: int, what: str) -> bytes:
    from netbpf.bpf.btf.raw import encode_raw

    return encode_raw(text, size, name=what)


def _read_entry(found: Found) -> Value:
    one = found.map
    data = one.map.lookup(_key(found))
    if data is None:
        assert isinstance(found.path.steps[0], Index)
        raise NetbpfError(f"map {escape(one.name)} has no entry {escape(found.path.steps[0].text)}")
    rest = Path(found.path.steps[1:])
    if not rest.steps:
        return one.total(data)
    value = one.total(data)
    if not one.map.per_cpu:
        btf, type_id = _types(one)
        return decode_place(locate(btf, type_id, rest, size=len(data), name=one.info.name), data)
    for step in rest.steps:
        if isinstance(value, dict) and str(step) in value:
            value = value[str(step)]
        elif (
            isinstance(value, list)
            and isinstance(step, Index)
            and step.text.isdigit()
            and int(step.text) < len(value)
        ):
            value = value[int(step.text)]
        else:
            raise ObjectError(f"{escape(one.name)} has no part {escape(str(rest))}")
    return value


def _plan_entry(
    found: Found, value: Encodable, typed: bool, earlier: Mapping[tuple[int, bytes], bytes]
) -> _EntryWrite:
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
    key, rest = _key(found), Path(found.path.steps[1:])
    size = one.info.value_size
    if one.map.per_cpu:
        return _plan_per_cpu(found, key, rest, value, typed)
    data = bytearray(size)
    if rest.steps:
        data = bytearray(earlier.get((one.info.id, key)) or one.map.lookup(key) or data)
    change = _EntryWrite(one, key, rest, value, typed, b"")
    if one.btf and one.info.btf_value_type_id:
        _write(one.btf, one.info.btf_value_type_id, data, change, one.info.name)
    elif rest.steps:
        _types(one)
    else:
        data = bytearray(_raw(str(value), size, f"the value of {name}"))
    return change._replace(data=bytes(data))


def _plan_per_cpu(
    found: Found, key: bytes, rest: Path, value: Encodable, typed: bool
) -> _EntryWrite:
    """A per-CPU entry takes one value per CPU, or 0 for all of them: what should one number for four CPUs mean?"""
    one, cpus = found.map, possible_cpus()
    name = escape(one.name)
    btf, type_id = _types(one)
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
    return _EntryWrite(one, key, rest, value, typed, out)
