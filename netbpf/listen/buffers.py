"""The buffers that the programs on an interface, or one map by its id, name or pin, have for their reader."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from typing import Final, Self

from netbpf.bpf.btf.types import Btf
from netbpf.bpf.ids import program_ids
from netbpf.bpf.map import Map
from netbpf.bpf.object import ObjectSpec
from netbpf.bpf.program import Program, btf_by_id
from netbpf.constants import MapType
from netbpf.errors import NetbpfError, NotAttachedError, NotSupportedError, ObjectError, UsageError
from netbpf.insight.choose import Wanted, parse
from netbpf.insight.kernel import open_map
from netbpf.insight.names import map_type_name
from netbpf.live.reader import HookReader, OpenMap, Part
from netbpf.manager.build import kept_object
from netbpf.manager.status import status
from netbpf.model import Attachment, ProgramInfo
from netbpf.net.netns import Namespace
from netbpf.text import did_you_mean, escape

BUFFERS: Final = {MapType.RINGBUF: "ring", MapType.PERF_EVENT_ARRAY: "perf"}
_MOST_PROGRAMS: Final = 1024  # that tail calls are followed to


@dataclass(frozen=True, slots=True)
class Buffer:
    """An open map, the program or member of a chain that has it, its hooks (``eth0 xdp``) and its programs' types.

    ``variables`` are open sections of its global variables, among which may be its own count of what it lost.
    """

    map: Map
    program: str
    hooks: tuple[str, ...]
    types: tuple[Btf, ...]
    variables: tuple[OpenMap, ...]

    @property
    def kind(self) -> str:
        """ "ring", "perf", or "" for a map of another type."""
        return BUFFERS.get(MapType(self.map.info.type), "")


class Buffers:
    """What was found, open. Close it, or use it as a context manager."""

    def __init__(self) -> None:
        self._stack = ExitStack()
        self._found: dict[int, Buffer] = {}

    @classmethod
    def on(
        cls, attachments: Sequence[Attachment], interface: str, names: Sequence[str] = ()
    ) -> Self:
        """Those of the programs on an interface, and of what these reach by tail calls.

        All ring and perf buffers, or the maps of ``names``: ``events``, ``acl.events`` with a program's name before
        it. Raises NotAttachedError where there is no program or no buffer, ObjectError for an unknown name.
        """
        if not attachments:
            raise NotAttachedError(f"no XDP or TC program on {escape(interface)}")
        made = cls()
        with ExitStack() as undo:
            undo.callback(made.close)
            known: dict[str, int] = {}
            for attachment in attachments:
                made._hook(attachment, names, known)
            for name in names:
                if name not in known:
                    raise ObjectError(
                        f"no map {escape(name)!r} on {escape(interface)}",
                        hint=did_you_mean(name, known, "there are"),
                    )
            if not made._found:
                hint = f"other maps: netbpf stats {escape(interface)}" if known else None
                raise NotAttachedError(
                    f"no program on {escape(interface)} has a ring or perf buffer", hint=hint
                )
            undo.pop_all()
        return made

    @classmethod
    def of(cls, wanted: Wanted) -> Self:
        """The one map that is meant, with the types of all programs that use it. Raises as ``open_map``."""
        made = cls()
        with ExitStack() as undo:
            undo.callback(made.close)
            opened = made._stack.enter_context(open_map(wanted))
            users, variables = [], list[OpenMap]()
            for number in program_ids():
                with suppress(NotAttachedError), Program.by_id(number) as program:
                    if opened.info.id in program.info.map_ids:
                        users.append(program.info)
                        variables += made._variables(program.info.map_ids, program.info.btf_id)
            found = (btf_by_id(number) for number in {one.btf_id for one in users})
            types = tuple(btf for btf in found if btf is not None)
            names = ", ".join(sorted({one.name for one in users}))
            made._found[opened.info.id] = Buffer(opened, names, (), types, tuple(variables))
            undo.pop_all()
        return made

    def _hook(self, attachment: Attachment, names: Sequence[str], known: dict[str, int]) -> None:
        """Add what one hook has; ``known`` gets the names of all its maps."""
        hook = f"{attachment.occupant.interface.name} {attachment.occupant.hook}"
        with HookReader(attachment) as reader:
            own = btf_by_id(reader.program.info.btf_id)
            for part in reader.parts:
                types = _types_of(part, own)
                sections = [one for one in part.maps if one.holds_variables]
                for one in part.maps:
                    if not one.holds_variables:
                        words = {one.name, *(f"{name}.{one.name}" for name in part.names)}
                        self._add(
                            one.map, part.names[-1], hook, words, names, known, types, sections
                        )
            program = reader.program.info
        for info in tail_called(program.map_ids):
            for number in info.map_ids:
                with suppress(NotAttachedError), Map.by_id(number) as called:
                    words = {called.info.name, f"{info.name}.{called.info.name}"}
                    self._add(
                        called, info.name, hook, words, names, known, _types_of_id(info.btf_id), ()
                    )

    def _add(
        self,
        one: Map,
        program: str,
        hook: str,
        words: set[str],
        names: Sequence[str],
        known: dict[str, int],
        types: tuple[Btf, ...],
        sections: Sequence[OpenMap],
    ) -> None:
        known |= dict.fromkeys(words, one.info.id)
        if not (words & set(names) if names else one.info.type in BUFFERS):
            return
        before = self._found.get(one.info.id)
        if before is not None:
            hooks = tuple(dict.fromkeys((*before.hooks, hook)))
            self._found[one.info.id] = Buffer(
                before.map, before.program, hooks, before.types, before.variables
            )
            return
        self._found[one.info.id] = Buffer(
            self._stack.enter_context(Map(one.fd.duplicate())), program, (hook,), types,
            tuple(OpenMap(self._stack.enter_context(Map(each.map.fd.duplicate())), each.btf) for each in sections),
        )  # fmt: skip

    def _variables(self, map_ids: Sequence[int], btf_id: int) -> Iterator[OpenMap]:
        btf = btf_by_id(btf_id)
        for number in map_ids:
            with suppress(NotAttachedError), ExitStack() as undo:
                one = OpenMap(undo.enter_context(Map.by_id(number)), btf)
                if one.section is not None:
                    self._stack.push(undo.pop_all())
                    yield one

    def __iter__(self) -> Iterator[Buffer]:
        return iter(self._found.values())

    def __len__(self) -> int:
        return len(self._found)

    def close(self) -> None:
        """Let go of the maps."""
        self._stack.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _types_of(part: Part, own: Btf | None) -> tuple[Btf, ...]:
    """The types of a program, or of a member: a chain's own BTF has few of its members' types; their objects do."""
    if part.member is not None:
        try:
            spec = ObjectSpec(kept_object(part.member), part.member.object.path)
        except NetbpfError:
            pass  # netbpf's copy is lost; what other maps of the member say is left
        else:
            return (spec.btf,) if spec.btf else ()
    elif own is not None:
        return (own,)
    return tuple({id(one.btf): one.btf for one in part.maps if one.btf is not None}.values())


def _types_of_id(number: int) -> tuple[Btf, ...]:
    found = btf_by_id(number)
    return () if found is None else (found,)


def find(where: str, names: Sequence[str] = (), *, netns: str | Namespace | None = None) -> Buffers:
    """What a user means: an interface and maybe maps on it, the id of a map, or the path of its pin.

    Raises InterfaceNotFoundError, NamespaceNotFoundError, and what ``Buffers.on`` and ``Buffers.of`` raise.
    """
    if "/" in where or where.isdecimal():
        if names:
            raise UsageError(
                f"{escape(where)} is one map already", hint="maps by name are for an interface"
            )
        return Buffers.of(parse((where,)))
    return Buffers.on(status(where, netns=netns), where, names)


def reject_others(found: Buffers) -> None:
    """NotSupportedError or UsageError for a map that has no records for a reader."""
    for one in found:
        if not one.kind:
            name, kind = escape(one.map.info.name), map_type_name(one.map.info.type)
            if not one.map.readable:
                raise NotSupportedError(f"map {name} ({kind}) has no records to read")
            raise UsageError(
                f"map {name} ({kind}) has entries, and no events",
                hint=f"netbpf map dump {one.map.info.id}",
            )


def tail_called(map_ids: Sequence[int]) -> Iterator[ProgramInfo]:
    """The programs that are in the prog arrays among some maps, in theirs, and so on."""
    seen, waiting = set[int](), list(map_ids)
    while waiting and len(seen) < _MOST_PROGRAMS:
        with suppress(NotAttachedError), Map.by_id(waiting.pop()) as one:
            if one.info.type != MapType.PROG_ARRAY:
                continue
            for _, value in one.entries():
                number = int.from_bytes(value[:4], "little")
                if number and number not in seen:
                    seen.add(number)
                    with suppress(NotAttachedError), Program.by_id(number) as program:
                        waiting += program.info.map_ids
                        yield program.info
