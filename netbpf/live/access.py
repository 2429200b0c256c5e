"""Variables and map entries of attached programs by name: read them, and write them while the program runs.

A name is ``counter``, ``cfg.port``, ``ports[2]``, ``rules[10.0.0.0/8]``, ``rules[10.0.0.0/8].action``, or the same
behind the name of a program and a dot, where several programs have it.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from typing import Self

from netbpf.bpf.btf.decode import decode_place
from netbpf.bpf.btf.encode import Encodable
from netbpf.bpf.btf.path import Index, Path, locate, parse_assignment
from netbpf.bpf.btf.values import Value
from netbpf.errors import NetbpfError, NotAttachedError, NotSupportedError, ObjectError, UsageError
from netbpf.live.found import Found, key_of, types_of
from netbpf.live.reader import HookReader, map_type, read_map
from netbpf.live.writes import EntryWrite, VariableWrite, plan_entry, plan_variable
from netbpf.model import Attachment
from netbpf.text import did_you_mean, escape


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
        if len(path.steps) > 1 and not isinstance(path.steps[1], Index):
            # A member and its map may have one name; behind a map's stands the key in brackets.
            owned = list(self._candidates(Path(path.steps[1:]), str(path.steps[0])))
            if not any(one.variable for one in found):
                found = owned or found
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
                f"{escape(one.part.name)} ({one.reader.hook}, program {one.reader.program.info.id})"
                for one in found
            )
            raise UsageError(
                f"{escape(str(path))} is in several programs on {escape(self.interface)}: {owners}",
                hint=f"say which: {found[0].part.name}.{path}, or --hook {found[0].reader.hook}",
            )
        return found[0]

    def _candidates(self, path: Path, owner: str | None = None) -> Iterator[Found]:
        """Where a path leads to, in the parts called ``owner`` or in all."""
        for reader in self.readers:
            for part in reader.parts:
                if owner is not None and owner not in part.names:
                    continue
                for one in part.maps:
                    name = str(path.steps[0])
                    if one.holds_variables:
                        known = one.variable_names()
                        if path.first(known)[0] in known:
                            yield Found(reader, part, one, path, variable=True)
                        elif one.section is None and name == one.name:
                            yield Found(reader, part, one, Path(), variable=True)
                    elif name == one.name:
                        yield Found(reader, part, one, Path(path.steps[1:]), variable=False)

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
        planned: list[VariableWrite | EntryWrite] = []
        entries: dict[tuple[int, bytes], bytes] = {}
        items = [parse_assignment(one) for one in changes] if not isinstance(changes, Mapping) else [
            (Path.parse(name), value) for name, value in changes.items()
        ]  # fmt: skip
        typed = not isinstance(changes, Mapping)
        for path, value in items:
            found = self.find(path)
            if found.variable:
                planned.append(plan_variable(found, value, typed))
            else:
                # Two parts of one entry: the second starts from what the first makes of it.
                change = plan_entry(found, value, typed, entries)
                entries[found.map.info.id, change.key] = change.data
                planned.append(change)
        for write in planned:
            write.apply()


def _read_variable(found: Found) -> Value:
    data = found.map.map.lookup(bytes(4)) or b""
    if not found.path.steps:
        return found.map.value(data)
    btf, type_id = types_of(found.map)
    return decode_place(locate(btf, type_id, found.path, size=len(data)), data)


def _read_entry(found: Found) -> Value:
    one = found.map
    data = one.map.lookup(key_of(found))
    if data is None:
        assert isinstance(found.path.steps[0], Index)
        raise NetbpfError(f"map {escape(one.name)} has no entry {escape(found.path.steps[0].text)}")
    rest = Path(found.path.steps[1:])
    if not rest.steps:
        return one.total(data)
    value = one.total(data)
    if not one.map.per_cpu:
        btf, type_id = types_of(one)
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
