"""A copy of what runs on a hook, with maps of its own that hold what the live ones hold.

The live program, its counters and its maps are only read.
"""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace

from netbpf.bpf.chain import Counters
from netbpf.bpf.loader import Loaded, load
from netbpf.bpf.map import Map
from netbpf.bpf.mapload import kernel_name
from netbpf.bpf.object import ObjectSpec
from netbpf.bpf.program import Program, btf_by_id
from netbpf.constants import FD_MAPS, Hook, MapType
from netbpf.errors import NetbpfError, NotAttachedError, NotManagedError, UsageError
from netbpf.live.reader import OpenMap
from netbpf.manager.build import Builder, kept_object, kernel_types
from netbpf.manager.status import status
from netbpf.model import Attachment, Member
from netbpf.net.netns import Namespace
from netbpf.packets.replay_ways import Shares, Target
from netbpf.packets.testrun import Bench
from netbpf.text import escape

# Entries of these are an interface or a CPU, and perhaps a program, which the copy does without.
_TARGETS = frozenset({MapType.DEVMAP, MapType.DEVMAP_HASH, MapType.CPUMAP})


@contextmanager
def live_copy(interface: str, hook: Hook | None, netns: str | Namespace | None) -> Iterator[Target]:
    """The copy of what netbpf runs on an interface: one program, or a chain.

    ``hook`` None is the only one there is something on. Raises NotAttachedError, NotManagedError for what others
    attached, UsageError where several hooks are meant, and NetbpfError where a member's object or map is lost.
    """
    attachment = _chosen(interface, hook, netns)
    with ExitStack() as held:
        copier = Copier(attachment.occupant.hook, held)
        copies = {one.name: copier.copy(one) for one in attachment.members}
        if len(copies) == 1:
            ((name, loaded),) = copies.items()
            bench = Bench(loaded, attachment.occupant.hook, notes=tuple(copier.notes))
            yield replace(Target.of(bench), name=name)
            return
        builder = held.enter_context(Builder(attachment.occupant.hook))
        # Without maps, of which the live ones are named there: the copies are in the code.
        members = tuple(replace(one, maps=()) for one in attachment.members)
        built = builder.build(members, None, copies)
        counters = held.enter_context(Counters.by_id(built.counters, attachment.occupant.hook))

        def shares() -> Shares:
            counts = counters.read()
            return {one.name: counts[one.slot] for one in built.members}

        yield Target(
            f"{interface} {attachment.occupant.hook}",
            attachment.occupant.hook,
            built.program.fd.fileno(),
            None,
            _maps(copies),
            tuple(copier.notes),
            shares,
        )


def _chosen(interface: str, hook: Hook | None, netns: str | Namespace | None) -> Attachment:
    found = [
        one
        for one in status(interface, netns=netns)
        if hook is None or one.occupant.hook.prog_type is hook.prog_type
    ]
    if not found:
        raise NotAttachedError(
            f"no {'XDP or TC' if hook is None else hook.prog_type.name} program on {escape(interface)}",
            hint="netbpf status shows what runs where",
        )
    managed = [one for one in found if one.members]
    if not managed:
        raise NotManagedError(
            f"{escape(found[0].program.name)} on {escape(interface)} was not attached by netbpf, "
            "which has no object of it to make a copy from",
            hint="replay the object itself: netbpf replay OBJECT CAPTURE",
        )
    if len(managed) > 1:
        hooks = ", ".join(str(one.occupant.hook) for one in managed)
        raise UsageError(
            f"there are programs on several hooks of {escape(interface)}: {hooks}",
            hint="choose one with --hook",
        )
    return managed[0]


def _maps(copies: dict[str, Loaded]) -> dict[str, OpenMap]:
    """The maps of all members, each once, behind the name of the first member that has it."""
    found: dict[str, OpenMap] = {}
    seen: set[int] = set()
    for member, loaded in copies.items():
        for name, one in loaded.maps.items():
            if one.info.id not in seen:
                seen.add(one.info.id)
                found[f"{member}.{name}"] = OpenMap(one, btf_by_id(one.info.btf_id))
    return found


class Copier:
    """Makes copies of a hook's members, which live as long as ``held``. Maps that members share, the copies share.

    ``most`` is how many entries of a map are copied, None for all; ``notes`` say what the copies do not have.
    """

    def __init__(self, hook: Hook, held: ExitStack, most: int | None = None) -> None:
        self.hook, self.held, self.most = hook, held, most
        self.notes: list[str] = []
        self._copied: dict[int, Map] = {}  # by the id of the live map: members may share it

    def copy(self, member: Member) -> Loaded:
        """A member with copies of its maps."""
        spec = ObjectSpec(kept_object(member), member.object.path)
        reuse: dict[str, Map] = {}
        with ExitStack() as opened:
            live: dict[str, Map] = {}
            for name, number in member.maps:
                if number in self._copied:
                    reuse[name] = self._copied[number]
                elif name in spec.maps:
                    live[name] = opened.enter_context(_open(member, name, number))
            self._begin(spec, live)
            loaded = self.held.enter_context(
                load(
                    spec,
                    spec.select(self.hook, member.program),
                    self.hook,
                    reuse=reuse,
                    kernel_btf=kernel_types(member),
                )
            )
            for name, one in live.items():
                if name in loaded.maps:
                    self._copied[one.info.id] = loaded.maps[name]
                    if not spec.maps[name].is_data:
                        self._fill(name, one, loaded.maps[name])
        return loaded

    def _begin(self, spec: ObjectSpec, live: dict[str, Map]) -> None:
        """What maps are made with: the sizes they have, variables as they are, settings included, and programs."""
        for name, one in live.items():
            made = spec.maps[name]
            if made.is_data:
                made.initial = bytearray(one.lookup(bytes(4)) or made.initial or b"")
            elif made.type not in (MapType.RINGBUF, MapType.USER_RINGBUF):
                made.max_entries = one.info.max_entries
            if made.type == MapType.PROG_ARRAY:
                made.slots = dict(self._programs(spec, name, one))

    def _programs(self, spec: ObjectSpec, name: str, live: Map) -> Iterator[tuple[int, str]]:
        """The programs of the object that a prog array holds; the copy has them at the same places."""
        known = {kernel_name("", one.name): one.name for one in spec.programs}
        for key, value in live.entries():
            index, number = (int.from_bytes(one[:4], "little") for one in (key, value))
            try:
                with Program.by_id(number) as found:
                    called = found.info.name
            except NotAttachedError:
                continue
            if called in known:
                yield index, known[called]
            else:
                self.notes.append(
                    f"{escape(name)}[{index}] holds {escape(called)} (program {number}), which is not of "
                    f"{spec.elf.origin}: the copy has nothing there"
                )

    def _fill(self, name: str, live: Map, copy: Map) -> None:
        kind = live.info.type
        if kind == MapType.PROG_ARRAY:
            return
        if kind in FD_MAPS:
            if not copy.readable or any(True for _ in live.entries(1)):
                self.notes.append(
                    f"map {escape(name)} holds in the copy what the object puts in it"
                )
            return
        if not live.readable:
            return  # queues and ring buffers begin empty
        for number, (key, value) in enumerate(live.entries()):
            if number == self.most:
                self.notes.append(
                    f"map {escape(name)} is not whole in the copy: it has the first {number:,} entries"
                )
                return
            data = bytes(value)
            if kind in _TARGETS:
                data = data[:4].ljust(len(data), b"\0")
            try:
                copy.update(bytes(key), data)
            except NetbpfError as error:
                self.notes.append(f"map {escape(name)} is not whole in the copy: {error.message}")
                return


def _open(member: Member, name: str, number: int) -> Map:
    try:
        return Map.by_id(number)
    except NotAttachedError:
        raise NetbpfError(
            f"map {escape(name)} (id {number}) of {escape(member.name)} is gone"
        ) from None
