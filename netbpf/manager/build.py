"""From the members of a hook to the one program that runs there: plain for one, a chain for several.

Members that run already are linked anew from their kept objects with their live maps, so nothing they have gathered
is lost; those that come are taken as they were loaded.
"""

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Self

from netbpf import layout
from netbpf._sys import bpf as sys_bpf
from netbpf.bpf.chain import Counters, Part, build, frags, verdicts
from netbpf.bpf.chain.link import who
from netbpf.bpf.loader import Loaded, load, prepare
from netbpf.bpf.map import Map, possible_cpus
from netbpf.bpf.object import ObjectSpec
from netbpf.bpf.program import Program
from netbpf.bpf.tap import Functions, Place
from netbpf.constants import Hook
from netbpf.errors import NetbpfError, NotAttachedError
from netbpf.manager.mappinned import needs_holding
from netbpf.manager.members import Members
from netbpf.manager.tailcalls import refuse_mixed
from netbpf.model import Member, Tap
from netbpf.state.codec import plain
from netbpf.state.files import read_small
from netbpf.state.records import Generation
from netbpf.state.taps import alive, remember
from netbpf.text import escape

_MOST_OBJECT = 1 << 30  # bytes


@dataclass(frozen=True, slots=True)
class Built:
    """A program for a hook, what it runs, and the map in which it counts (0: it does not).

    ``holds`` are the ids of the maps that have to be pinned for its members, ``onward`` of those that the chain itself
    cannot be without. ``notes`` say aloud what its members lose by running together. ``taps`` and ``untapped`` are as
    in a record; ``since`` is when it was attached, in Unix time, None for now.
    """

    program: Program
    members: Members
    counters: int = 0
    notes: tuple[str, ...] = ()
    holds: tuple[int, ...] = ()
    onward: tuple[int, ...] = ()
    taps: tuple[Tap, ...] = ()
    untapped: int = 0
    since: float | None = None


class Builder:
    """Builds the programs of one hook type. What it opens lives until the block ends."""

    def __init__(self, hook: Hook) -> None:
        self.hook = hook
        self._held = ExitStack()
        self._fresh: dict[str, Loaded] = {}
        self._specs: dict[str, ObjectSpec] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._held.close()

    def build(
        self,
        members: Members,
        current: Generation | None,
        fresh: Mapping[str, Loaded],
        taps: tuple[Tap, ...] | None = None,
    ) -> Built:
        """The program for ``members``, in running order.

        ``current`` is what runs now: its counters go on. ``fresh`` are the members, by name, that were loaded just
        now. Raises what loading raises, naming the member, and NetbpfError for one whose object is lost. ``taps`` are
        the captures that look on, by default those that do now; what has died, or watches a member that goes, is left
        out.
        """
        taps = self._taps(members, current, taps)
        if not taps and len(members) == 1:
            program = self._alone(members[0], fresh)
            alone = (replace(members[0], slot=0, baseline=()),)
            return Built(program, alone, holds=self._holds(members, fresh))
        if len(members) > 1:
            counters, members = self._counters(members, current)
        else:
            counters, members = None, tuple(replace(one, slot=0, baseline=()) for one in members)
        for tap in taps:
            remember(tap.name, [(who(one.name), one.name) for one in members])
        parts = [self._part(one, fresh) for one in members]
        refuse_mixed(parts)
        program = self._held.enter_context(
            build(
                parts, self.hook, counters, description=plain(members),
                taps=[self._functions(one) for one in taps],
            )
        )  # fmt: skip
        bound = set(program.info.map_ids)
        for one in members:
            for name, number in one.maps:
                # Maps that the code does not name, such as a section that was only set.
                if number not in bound:
                    with self._map(one, name, number) as extra:
                        sys_bpf.prog_bind_map(program.fd.fileno(), extra.fd.fileno())
        return Built(
            program, members, counters.id if counters else 0, _one_buffer(parts),
            self._holds(members, fresh), tuple(one.info.id for one in program.hold), taps,
        )  # fmt: skip

    def _holds(self, members: Members, fresh: Mapping[str, Loaded]) -> tuple[int, ...]:
        """The maps of members that lose something once nobody has them open."""
        found = []
        for one in members:
            spec = fresh[one.name].spec if one.name in fresh else self._spec(one)
            found += [
                number
                for name, number in one.maps
                if name in spec.maps and needs_holding(spec.maps[name], spec.btf)
            ]
        return tuple(found)

    # --- one member ---

    def _alone(self, member: Member, fresh: Mapping[str, Loaded]) -> Program:
        if member.name in fresh:
            return fresh[member.name].program
        with ExitStack() as opened:
            maps = self._maps(member, opened)
            spec = self._spec(member)
            loaded = self._held.enter_context(
                load(
                    spec, spec.select(self.hook, member.program), self.hook, reuse=maps,
                    extra_maps=tuple(maps), kernel_btf=kernel_types(member),
                )
            )  # fmt: skip
        return loaded.program

    def _part(self, member: Member, fresh: Mapping[str, Loaded]) -> Part:
        proceed = verdicts.numbers(self.hook, member.proceed_on)
        if member.name in fresh:
            loaded = fresh[member.name]
            return Part(
                member.name, loaded.spec, loaded.program_spec, loaded.image, proceed, member.slot
            )
        spec = self._spec(member)
        program = spec.select(self.hook, member.program)
        with ExitStack() as opened:
            prepared = self._held.enter_context(
                prepare(
                    spec, program, self.hook, reuse=self._maps(member, opened),
                    kernel_btf=kernel_types(member),
                )
            )  # fmt: skip
        return Part(member.name, spec, program, prepared.image, proceed, member.slot)

    def _maps(self, member: Member, opened: ExitStack) -> dict[str, Map]:
        return {
            name: opened.enter_context(self._map(member, name, number))
            for name, number in member.maps
        }

    @staticmethod
    def _map(member: Member, name: str, number: int) -> Map:
        try:
            return Map.by_id(number)
        except NotAttachedError:
            raise NetbpfError(
                f"map {escape(name)} (id {number}) of member {escape(member.name)} is gone",
                hint=f"take the member out: netbpf detach xdp|tc IFACE {escape(member.name)}",
            ) from None

    def _spec(self, member: Member) -> ObjectSpec:
        sha256 = member.object.sha256
        if sha256 not in self._specs:
            self._specs[sha256] = ObjectSpec(kept_object(member), member.object.path)
        return self._specs[sha256]

    # --- captures ---

    @staticmethod
    def _taps(
        members: Members, current: Generation | None, given: tuple[Tap, ...] | None
    ) -> tuple[Tap, ...]:
        if given is None:
            given = current.taps if current else ()
        names = {"", *(one.name for one in members)}
        return tuple(one for one in given if one.member in names and alive(one.name))

    def _functions(self, one: Tap) -> Functions:
        place = self._held.enter_context(Place.by_ids(one.state, one.ring, one.snaplen))
        return Functions(
            one.member, bytes.fromhex(one.code), place.state.fd.fileno(), place.ring.fd.fileno(),
            possible_cpus(), one.snaplen, one.mask,
        )  # fmt: skip

    # --- counting ---

    def _counters(self, members: Members, current: Generation | None) -> tuple[Counters, Members]:
        """The counters of a chain, and its members with their slots: those that stay keep theirs."""
        running = current.counters if current else 0
        if not running:
            counters = self._held.enter_context(Counters.create(self.hook))
            return counters, tuple(
                replace(one, slot=slot, baseline=()) for slot, one in enumerate(members)
            )
        assert current is not None
        counters = self._held.enter_context(Counters.by_id(running, self.hook))
        stays = {one.name: one for one in current.members}
        taken = {one.slot for one in current.members}
        found = []
        for one in members:
            before = stays.get(one.name)
            if before and before.added_at == one.added_at:
                found.append(replace(one, slot=before.slot, baseline=before.baseline))
            else:
                slot, baseline = counters.free_slot(taken)
                taken.add(slot)
                found.append(replace(one, slot=slot, baseline=tuple(baseline.items())))
        return counters, tuple(found)


def kernel_types(member: Member) -> Path | None:
    """The kept file of kernel types that a member was relocated against, or None for the running kernel's."""
    return layout.object_file(member.kernel_btf) if member.kernel_btf else None


def kept_object(member: Member) -> bytes:
    """The object a member was loaded from: the kept copy, or the file itself if it still is the same.

    NetbpfError where it is lost: then nothing but the file can say what the member was.
    """
    return kept(member.object.sha256, member.object.path, f"member {escape(member.name)}")


def kept(sha256: str, path: str, what: str) -> bytes:
    """A kept file by its hash, or the one at ``path`` if its content is that. NetbpfError where there is neither."""
    from hashlib import sha256 as hash_of

    data = read_small(layout.object_file(sha256), _MOST_OBJECT)
    if data is None:
        try:
            data = Path(path).read_bytes()
        except OSError:
            data = b""
    if hash_of(data).hexdigest() != sha256:
        raise NetbpfError(
            f"the object of {what} is lost: netbpf's copy is gone, and {escape(path)} is another one now",
            hint="the program keeps running; to change it, detach it and attach it anew",
        )
    return data


def _one_buffer(parts: Sequence[Part]) -> tuple[str, ...]:
    """What to say where only some members take frames in several buffers: then the chain takes none."""
    able, unable = frags(parts)
    if not able or not unable:
        return ()
    why = f"because {escape(unable[0])} does not; {escape(able[0])} alone would"
    return (f"the chain takes no frames in several buffers (xdp.frags), {why}",)
