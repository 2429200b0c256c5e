"""Reading one hook's program: opened once, read as often as wanted.

Works on any program, whoever attached it: the program names its maps, and they name their types (BTF).
"""

import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Self

from netbpf._sys.bpf import RunStats
from netbpf.bpf.btf.decode import decoder
from netbpf.bpf.btf.percpu import copies, summer
from netbpf.bpf.btf.raw import decode_number, decode_raw
from netbpf.bpf.btf.shape import shape
from netbpf.bpf.btf.types import Btf, BtfType, Kind
from netbpf.bpf.btf.values import Buffer, Value
from netbpf.bpf.map import Map
from netbpf.bpf.program import Program, btf_by_id
from netbpf.constants import ARRAY_MAPS, COVER_MAP, FD_MAPS, INDEXED_MAPS, Hook, MapType
from netbpf.errors import KernelError, NetbpfError, ObjectError
from netbpf.live.members import MemberCounts
from netbpf.live.model import (
    Counter,
    Entry,
    HookStats,
    MapValues,
    MemberStats,
    Run,
    VariableValue,
)
from netbpf.live.tables import PROTOCOLS_MAP, VERDICTS_MAP, protocol_name, verdict_name
from netbpf.model import Attachment, Member

Decode = Callable[[Buffer], Value]


class _Opener:
    """Opens maps by their ids, each once, with their types."""

    def __init__(self, stack: ExitStack) -> None:
        self._stack = stack
        self._maps: dict[int, OpenMap] = {}
        self._types: dict[int, Btf | None] = {}

    def open(self, number: int) -> "OpenMap":
        if number not in self._maps:
            opened = self._stack.enter_context(Map.by_id(number))
            btf_id = opened.info.btf_id
            if btf_id not in self._types:
                self._types[btf_id] = btf_by_id(btf_id)
            self._maps[number] = OpenMap(opened, self._types[btf_id])
        return self._maps[number]


class OpenMap:
    """A map with the decoders of its keys and values. ``section`` is its DATASEC where it holds variables."""

    def __init__(self, opened: Map, btf: Btf | None) -> None:
        self.map = opened
        self.info = opened.info
        self.btf = btf
        self.section: BtfType | None = None
        if btf and self.info.btf_value_type_id and not self.info.btf_key_type_id:
            kind = btf.type(self.info.btf_value_type_id)
            self.section = kind if kind.kind is Kind.DATASEC else None
        self.key: Decode = self._decoder(
            self.info.btf_key_type_id, lpm=self.info.type == MapType.LPM_TRIE
        )
        self.value: Decode = self._decoder(self.info.btf_value_type_id)
        # What some maps hold is known without types; the others are shown in hex.
        if self.info.type in INDEXED_MAPS and self.key is decode_raw:
            self.key = decode_number
        if self.info.type in FD_MAPS and self.value is decode_raw:
            self.value = decode_number
        self.total: Decode = self._summer()

    @property
    def name(self) -> str:
        """The section's own name for variables (the kernel's is cut and prefixed), else the map's."""
        return self.section.name if self.section else self.info.name

    @property
    def holds_variables(self) -> bool:
        """Whether this is the map behind a section of global variables, with or without BTF to name them."""
        return self.section is not None or (
            self.info.type == MapType.ARRAY
            and self.info.max_entries == 1
            # C names hold no dot: only loaders make one, from the name of a section (.rodata.str1.1 too).
            and "." in self.info.name
        )

    def variable_names(self) -> list[str]:
        """The names of the section's variables; none without BTF."""
        if self.section is None or self.btf is None:
            return []
        return list(shape(self.btf, self.section.id).fields)

    def _decoder(self, type_id: int, *, lpm: bool = False) -> Decode:
        if self.btf is None or not type_id:
            return decode_raw
        try:
            return decoder(self.btf, type_id, name=self.info.name, lpm=lpm)
        except ObjectError:
            return decode_raw  # its types are not to be trusted; the bytes still are

    def _summer(self) -> Decode:
        if not self.map.per_cpu:
            return self.value
        stride, size = self.map.stride, self.info.value_size
        if self.btf and self.info.btf_value_type_id:
            try:
                return summer(
                    self.btf, self.info.btf_value_type_id, stride, size, name=self.info.name
                )
            except ObjectError:
                pass
        return lambda data: self._sum_raw(data, stride, size)

    @staticmethod
    def _sum_raw(data: Buffer, stride: int, size: int) -> Value:
        parts = copies(data, stride, size)
        if size in (4, 8):
            # Without a type these widths are counters far more often than anything else.
            return f"{sum(int.from_bytes(one, 'little') for one in parts):#0{2 * size + 2}x}"
        shown = [decode_raw(one) for one in parts]
        return shown[0] if all(one == shown[0] for one in shown) else list(shown)

    def parts(self, data: Buffer) -> tuple[Value, ...]:
        """The values of each CPU; empty for a map that is not per CPU."""
        if not self.map.per_cpu:
            return ()
        return tuple(self.value(one) for one in copies(data, self.map.stride, self.info.value_size))


@dataclass(frozen=True, slots=True)
class Part:
    """The open maps of one program of a hook: all there are, or those of a member of a chain."""

    name: str
    maps: list[OpenMap]
    member: Member | None = None
    alias: str = ""

    @property
    def names(self) -> tuple[str, ...]:
        """What it may be called: the kernel's name, and what netbpf calls it."""
        return (self.name, self.alias or self.name)


class HookReader:
    """An open program with its maps. Close it, or use it as a context manager.

    ``parts`` are its members, or itself where it runs alone.
    """

    def __init__(self, attachment: Attachment) -> None:
        """Open everything; NetbpfError where the program is gone, PermissionDeniedError without CAP_SYS_ADMIN."""
        self.attachment = attachment
        self._counts: MemberCounts | None = None
        with ExitStack() as undo:
            self.program = undo.enter_context(Program.by_id(attachment.program.id))
            opener = _Opener(undo)
            if attachment.is_chain:
                self._counts = undo.enter_context(MemberCounts(attachment))
                self.parts = [
                    Part(one.name, [opener.open(number) for _, number in one.maps], one)
                    for one in attachment.members
                ]
            else:
                numbers = self.program.info.map_ids
                if attachment.taps:  # whose maps are nobody's
                    numbers = tuple(number for one in attachment.members for _, number in one.maps)
                opened = [opener.open(number) for number in numbers]
                maps = [one for one in opened if one.info.name != COVER_MAP]
                alias = attachment.members[0].name if attachment.members else ""
                self.parts = [Part(attachment.called, maps, alias=alias)]
            self._stack = undo.pop_all()

    @property
    def hook(self) -> Hook:
        """Where the program runs."""
        return self.attachment.occupant.hook

    @property
    def maps(self) -> list[OpenMap]:
        """The maps of all its parts, each once."""
        return list({one.info.id: one for part in self.parts for one in part.maps}.values())

    def close(self) -> None:
        """Let go of the program and its maps."""
        self._stack.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def read(
        self,
        *,
        limit: int | None = 1000,
        skip_zeros: bool = False,
        parts: bool = False,
        counting: bool = False,
    ) -> HookStats:
        """Everything, once. At most ``limit`` entries of each map; ``parts`` adds each CPU's values.

        ``counting`` says that runs are counted at the moment (``RunStatistics``), so that none is a number too.
        """
        info = self.program.refresh()
        ran = counting or info.run_count or info.run_time_ns or run_stats_enabled()
        run = Run(info.run_count, info.run_time_ns) if ran else None
        verdicts = self._counts.read() if self._counts else {}
        found = []
        for part in self.parts:
            variables: list[VariableValue] = []
            tables: list[MapValues] = []
            for one in part.maps:
                if one.holds_variables:
                    variables += read_variables(one)
                else:
                    tables.append(read_map(one, limit=limit, skip_zeros=skip_zeros, parts=parts))
            found.append((part.member, tuple(variables), tuple(tables)))
        if self._counts:
            members = tuple(
                MemberStats(member, values, tables, verdicts[member.name])
                for member, values, tables in found
                if member
            )
            return HookStats(self.attachment, run, taken_at=time.monotonic(), members=members)
        _, values, maps = found[0]
        return HookStats(
            self.attachment,
            run,
            values,
            maps,
            self._counters(VERDICTS_MAP, lambda index: verdict_name(self.hook, index)),
            self._counters(PROTOCOLS_MAP, protocol_name),
            time.monotonic(),
        )

    def _counters(self, name: str, label: Callable[[int], str]) -> dict[str, Counter]:
        found: dict[str, Counter] = {}
        for one in self.maps:
            if (
                one.info.name != name
                or one.info.type != MapType.PERCPU_ARRAY
                or one.info.value_size != 16
            ):
                continue
            for key, data in one.map.entries():
                value = one.total(data)
                name_of = label(int.from_bytes(key, "little"))
                if isinstance(value, dict) and (any(data) or not name_of.isdigit()):
                    packets, size = value.get("packets"), value.get("bytes")
                    if isinstance(packets, int) and isinstance(size, int):
                        found[name_of] = Counter(packets, size)
        return found


def read_variables(one: OpenMap) -> list[VariableValue]:
    """The global variables of a section; the whole section in hex where no BTF names them."""
    data = one.map.lookup(bytes(4)) or b""
    writable = not one.map.frozen
    if one.section is None or one.btf is None:
        return (
            [VariableValue(one.name, one.name, f"u8[{len(data)}]", decode_raw(data), writable)]
            if data
            else []
        )
    values = one.value(data)
    if not isinstance(values, dict):
        return []
    fields = shape(one.btf, one.section.id).fields
    return [
        VariableValue(name, one.section.name, fields[name].shape.c_name, value, writable)
        for name, value in values.items()
    ]


def map_type(one: OpenMap) -> str:
    """The kernel's name of a map's type in small letters, its number where this netbpf does not know it."""
    try:
        return MapType(one.info.type).name.lower()
    except ValueError:
        return str(one.info.type)


def read_map(one: OpenMap, *, limit: int | None, skip_zeros: bool, parts: bool) -> MapValues:
    """A map's entries, decoded as far as its BTF goes."""
    kind = map_type(one)
    if not one.map.readable:
        return MapValues(
            one.name, one.info.id, kind, 0, max_entries=one.info.max_entries, readable=False
        )
    entries: list[Entry] = []
    total = zeros = 0
    for key, data in one.map.entries():
        total += 1
        if skip_zeros and one.info.type in ARRAY_MAPS and not any(data):
            zeros += 1
        elif limit is None or len(entries) < limit:
            entries.append(Entry(one.key(key), one.total(data), one.parts(data) if parts else ()))
    return MapValues(
        one.name, one.info.id, kind, total, tuple(entries), zeros, one.info.max_entries
    )


class RunStatistics:
    """Run statistics of all programs, counted by the kernel while this context lasts (Linux 5.8).

    Where that is not permitted or not known, nothing is counted, and nothing fails.
    """

    def __init__(self) -> None:
        self._counting: RunStats | None = None

    @property
    def counting(self) -> bool:
        """Whether the kernel does count."""
        return self._counting is not None

    def __enter__(self) -> Self:
        try:
            self._counting = RunStats()
        except KernelError:
            self._counting = None
        return self

    def __exit__(self, *_: object) -> None:
        if self._counting:
            self._counting.close()


def run_stats_enabled() -> bool:
    """Whether the kernel counts runs of all programs (sysctl kernel.bpf_stats_enabled, Linux 5.1)."""
    try:
        with open("/proc/sys/kernel/bpf_stats_enabled") as file:
            return file.read().strip() == "1"
    except OSError:
        return False


def read_hooks(attachments: list[Attachment], **options: bool | int | None) -> list[HookStats]:
    """Read each attachment's program; one that vanished meanwhile is left out."""
    found = []
    for attachment in attachments:
        try:
            with HookReader(attachment) as reader:
                found.append(reader.read(**options))  # type: ignore[arg-type]
        except NetbpfError as error:
            if error.exit_code != 1:
                raise
    return found
