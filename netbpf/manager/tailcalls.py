"""Tail calls that are filled at attach (``--tail-call MAP[INDEX]=PROGRAM``), and which programs a prog array takes.

The kernel lets a program use a prog array, or be in it, only if it is as the first one was: of the same type, with or
without JIT, with or without xdp.frags, and since Linux 6.17 for the same kind of attachment (kernel/bpf/core.c,
__bpf_prog_map_compatible). It answers EINVAL without a word.
"""

import errno
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import NamedTuple

from netbpf._sys import bpf as sys_bpf
from netbpf._sys.fd import Fd
from netbpf._sys.info import prog_array_owner
from netbpf.bpf.chain import Part, frags
from netbpf.bpf.kinds import LoadKind, kind_of
from netbpf.bpf.loader import Loaded
from netbpf.bpf.map import Map
from netbpf.bpf.object import ObjectSpec, ProgramSpec
from netbpf.bpf.sections import fits
from netbpf.constants import Hook, MapType, ProgFlag, ProgType
from netbpf.errors import HookBusyError, NotSupportedError, ObjectError, UsageError
from netbpf.manager.mapsources import owner_of_map
from netbpf.text import did_you_mean, escape

_FORM = re.compile(
    r"(?P<map>[^\[\]=]+)\[(?P<index>[0-9]+|0x[0-9a-fA-F]+)\]=(?P<program>.+)", re.DOTALL
)


class TailCall(NamedTuple):
    """One entry as it was typed: the program that ``map`` holds at an index."""

    map: str
    at: int
    program: str

    @property
    def place(self) -> str:
        """``jumps[1]``, fit for a terminal."""
        return f"{escape(self.map)}[{self.at}]"


def parse(text: str) -> TailCall:
    """``MAP[INDEX]=PROGRAM``; UsageError for anything else."""
    found = _FORM.fullmatch(text)
    if not found:
        raise UsageError(
            f"--tail-call '{escape(text)}' is not MAP[INDEX]=PROGRAM",
            hint="such as 'jumps[1]=parse_udp', with a program of the same object",
        )
    return TailCall(found["map"], int(found["index"], 0), found["program"])


def fill(specs: Sequence[ObjectSpec], texts: Iterable[str]) -> None:
    """Make the entries slots of the objects' maps, so that loading an object fills them.

    What a prog array takes is checked in ``Slots``, once the program that uses it is known.
    Raises UsageError, ObjectError for maps and programs that none has.
    """
    for spec, calls in zip(specs, by_object(specs, texts), strict=True):
        for one in calls:
            array = spec.maps[one.map]
            if array.type != MapType.PROG_ARRAY:
                raise ObjectError(
                    f"--tail-call {one.place}: map {escape(one.map)} of {spec.elf.origin} is no prog array"
                )
            if one.at >= array.max_entries:
                raise ObjectError(
                    f"--tail-call {one.place}: map {escape(one.map)} has {array.max_entries} entries; index "
                    f"{one.at} is behind its end"
                )
            if not any(each.name == one.program for each in spec.programs):
                raise ObjectError(
                    f"--tail-call {one.place}: {spec.elf.origin} holds no program {escape(one.program)}",
                    hint=did_you_mean(
                        one.program, (each.name for each in spec.programs), "its programs are"
                    ),
                )
            array.slots[one.at] = one.program


def unfilled(loaded: Loaded, given: Collection[str]) -> tuple[str, ...]:
    """What to say of the prog arrays of a program that are empty, but for those that were there before."""
    return tuple(
        f"prog array {escape(name)} is empty, so tail calls through it do nothing"
        for name in loaded.maps
        if name not in given
        and loaded.spec.maps[name].type == MapType.PROG_ARRAY
        and not loaded.spec.maps[name].slots
    )


def by_object(specs: Sequence[ObjectSpec], texts: Iterable[str]) -> list[list[TailCall]]:
    """The tail calls of each object: of the one that has the map.

    Raises UsageError, ObjectError for maps that none has.
    """
    found: list[list[TailCall]] = [[] for _ in specs]
    for one in map(parse, texts):
        number, name = owner_of_map(specs, (), one.map, "--tail-call")
        call = one._replace(map=name)
        if any((same.map, same.at) == (name, one.at) for same in found[number]):
            raise UsageError(f"--tail-call: {call.place} is given twice")
        found[number].append(call)
    return found


class Slots:
    """The tail calls of one object whose slots are filled (``fill``), before it is loaded.

    ``refill`` are arrays that exist already and get entries all the same; ``undo`` takes these out again.
    """

    def __init__(
        self,
        spec: ObjectSpec,
        main: ProgramSpec,
        hook: Hook,
        calls: Sequence[TailCall],
        given: Mapping[str, Map],
    ) -> None:
        """Raises ObjectError for what cannot be, HookBusyError for a place in a shared array that is taken."""
        self._calls, self._given = calls, given
        self._written: list[tuple[Map, bytes]] = []
        origin = spec.elf.origin
        for name, live in given.items():
            if spec.maps[name].type == MapType.PROG_ARRAY:
                asked = {one.at: one.program for one in calls if one.map == name}
                spec.maps[name].slots = asked
                check_owner(live, main, hook, origin, escape(name))
        for one in calls:
            _check(spec, main, hook, one, given.get(one.map))
            if one.map in given:
                _check_free(given[one.map], one)
                self._written.append((given[one.map], one.at.to_bytes(4, "little")))
        self.refill = frozenset(one.map for one in calls if one.map in given)

    def check_used(self, program: str, used: Collection[str]) -> None:
        """ObjectError for an array that was filled and that the program does not use."""
        for one in self._calls:
            if one.map not in used:
                raise ObjectError(
                    f"--tail-call {one.place}: {escape(program)} uses no map {escape(one.map)}",
                    hint=did_you_mean(one.map, used, "its maps are"),
                )

    def undo(self) -> None:
        """Take out of shared arrays what was put in."""
        for live, key in self._written:
            if live.lookup(key) is not None:
                live.delete(key)


def _check(
    spec: ObjectSpec, main: ProgramSpec, hook: Hook, one: TailCall, live: Map | None
) -> None:
    origin, shown = spec.elf.origin, escape(one.program)
    if live and one.at >= live.info.max_entries:
        raise ObjectError(
            f"--tail-call {one.place}: the shared map has {live.info.max_entries} entries; index {one.at} is "
            "behind its end"
        )
    found = next(each for each in spec.programs if each.name == one.program)
    if found.name == main.name:
        raise ObjectError(
            f"--tail-call {one.place}: {shown} is the program that is attached; it would jump to itself",
            hint="if that is meant, initialise the map in the source",
        )
    if not fits(found.declared, hook):
        raise ObjectError(
            f"--tail-call {one.place}: {shown} (section {escape(found.section)}) is not for {hook}, as "
            f"{escape(main.name)} is",
            hint="all programs of a prog array have one type, and since Linux 6.17 are for one kind of place",
        )
    ours, theirs = kind_of(main, hook, origin), kind_of(found, hook, origin)
    if (ours.flags ^ theirs.flags) & ProgFlag.XDP_HAS_FRAGS:
        able, unable = (main, found) if ours.flags & ProgFlag.XDP_HAS_FRAGS else (found, main)
        raise ObjectError(
            f"--tail-call {one.place}: {escape(able.name)} takes frames in several buffers (xdp.frags), "
            f"{escape(unable.name)} does not",
            hint="the kernel wants xdp.frags of all programs of a prog array or of none",
        )


def _check_free(live: Map, one: TailCall) -> None:
    there = live.lookup(one.at.to_bytes(4, "little"))
    if there is not None:
        number = int.from_bytes(there, "little")
        raise HookBusyError(
            f"--tail-call {one.place}: the map is shared, and holds program {number} there",
            hint="use another index, or take that one out: "
            f"bpftool map delete id {live.info.id} key {' '.join(str(b) for b in one.at.to_bytes(4, 'little'))}",
        )


# --- what an array takes ---


def check_owner(live: Map, program: ProgramSpec, hook: Hook, origin: str, name: str) -> None:
    """ObjectError where a program may not use a prog array that other programs use or are in."""
    owner = prog_array_owner(live.fd.fileno())
    if owner is None:
        return  # it takes the first that comes
    kind = kind_of(program, hook, origin)
    shown = escape(program.name)
    if owner.type != kind.type:
        raise ObjectError(
            f"prog array {name} is for {_word(owner.type)} programs; {shown} is of type {_word(kind.type)}"
        )
    if _usable(live, kind):
        return
    other = kind._replace(flags=kind.flags ^ ProgFlag.XDP_HAS_FRAGS)
    if kind.type is ProgType.XDP and _usable(live, other):
        able = bool(kind.flags & ProgFlag.XDP_HAS_FRAGS)
        raise ObjectError(
            f"prog array {name} is for programs {'without' if able else 'with'} xdp.frags; {shown} is "
            f"{'with' if able else 'without'}",
            hint="the kernel wants xdp.frags of all programs of a prog array or of none",
        )
    raise ObjectError(
        f"prog array {name} does not take {shown}",
        hint="its programs need one type, one JIT and one kind of attachment",
    )


def _word(number: int) -> str:
    try:
        return ProgType(number).name.lower()
    except ValueError:
        return str(number)


def _usable(live: Map, kind: LoadKind) -> bool:
    """Whether a program that does nothing but jump through the array loads as ``kind``."""
    code = (
        b"\x18\x12\0\0" + live.fd.fileno().to_bytes(4, "little") + bytes(8)  # r2 = map
        + b"\xb7\x03\0\0\0\0\0\0"  # r3 = 0
        + b"\x85\0\0\0\x0c\0\0\0"  # call bpf_tail_call
        + b"\xb7\0\0\0\0\0\0\0\x95\0\0\0\0\0\0\0"  # return 0
    )  # fmt: skip
    request = sys_bpf.ProgLoad(
        prog_type=kind.type, insns=code, license="GPL", name="netbpf_probe",
        expected_attach_type=kind.attach_type, flags=kind.flags,
    )  # fmt: skip
    fd, number, _ = sys_bpf.prog_load(request)
    if isinstance(fd, Fd):
        fd.close()
    # Whatever else it says, the load of the program itself will say better.
    return number != errno.EINVAL


def refuse_mixed(parts: Sequence[Part]) -> None:
    """NotSupportedError for a chain in which only some members take several buffers, and one of those has tail calls.

    The chain then is loaded without xdp.frags, and the kernel does not let it use an array of programs that have it.
    """
    able, unable = frags(parts)
    if not able or not unable:
        return
    for one in parts:
        arrays = [ref.map for ref in one.image.maps if _is_array(one.spec, ref.map)]
        if one.takes_frags and arrays:
            raise NotSupportedError(
                f"member {escape(one.name)} takes frames in several buffers (xdp.frags) and has tail calls (map "
                f"{escape(arrays[0])}), which it keeps only in a chain of such members; {escape(unable[0])} is none",
                hint=f"build {escape(one.name)} without xdp.frags, or {escape(unable[0])} with it",
            )


def _is_array(spec: ObjectSpec, name: str) -> bool:
    return name in spec.maps and spec.maps[name].type == MapType.PROG_ARRAY
