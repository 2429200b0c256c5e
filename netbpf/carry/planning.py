"""What goes on, what moves, what starts anew: a running program's maps against what a new object wants."""

from collections.abc import Collection, Iterable, Mapping

from netbpf.bpf.btf.compare import difference
from netbpf.bpf.btf.shape import shape
from netbpf.bpf.map import Map
from netbpf.bpf.mapdefs import MapSpec
from netbpf.bpf.mapsizes import entries
from netbpf.bpf.object import ObjectSpec
from netbpf.carry.capacity import too_small
from netbpf.carry.convert import Converter, has_callbacks
from netbpf.carry.definitions import asked, flag_words, kept_bits, own_flags, reachable, type_name
from netbpf.carry.layouts import not_grown
from netbpf.carry.model import Action, CarryError, Change, Detail, Item, Plan
from netbpf.carry.ops import Meaning, Op
from netbpf.carry.slots import plan_outer, plan_prog_array
from netbpf.carry.steps import EntriesStep, Step
from netbpf.carry.variables import SectionPlanner
from netbpf.constants import MapFlag, MapType
from netbpf.errors import UsageError
from netbpf.text import did_you_mean, escape

MIGRATABLE = frozenset({
    MapType.HASH, MapType.PERCPU_HASH, MapType.LRU_HASH, MapType.LRU_PERCPU_HASH, MapType.ARRAY,
    MapType.PERCPU_ARRAY, MapType.LPM_TRIE,
})  # fmt: skip
_OF_MAPS = frozenset({MapType.ARRAY_OF_MAPS, MapType.HASH_OF_MAPS})
# How memory is laid out and shared, not what a map means: entries move from one to the other.
_INDIFFERENT = (
    MapFlag.NO_PREALLOC | MapFlag.NO_COMMON_LRU | MapFlag.NUMA_NODE | MapFlag.ZERO_SEED | MapFlag.MMAPABLE
)  # fmt: skip


def plan(
    old: Mapping[str, Map],
    old_spec: ObjectSpec,
    new_spec: ObjectSpec,
    uses: Iterable[str],
    *,
    reset: Collection[str] = (),
    shared: Collection[str] = (),
) -> Plan:
    """What ``new_spec`` takes over of the live maps ``old`` of a program of ``old_spec``.

    ``old`` and ``uses`` are names in the objects; ``uses`` are the maps that the new program's code names, to which
    those behind its static initialisers are added. Maps in ``reset`` start anew; those in ``shared``, which others
    use too, go on as they are or are refused.

    ``new_spec`` is changed: constants and sizes that were set when the old one was attached are set in it too (write
    the user's new settings afterwards). ``old_spec`` has to be as in the file.

    Raises CarryError (an ObjectError) naming every difference that is in the way, UsageError for a map to reset that
    the new program does not have. No live map is changed.
    """
    return _Planner(old, old_spec, new_spec, uses, frozenset(reset), frozenset(shared)).run()


class _Planner:
    def __init__(
        self,
        old: Mapping[str, Map],
        old_spec: ObjectSpec,
        new_spec: ObjectSpec,
        uses: Iterable[str],
        reset: frozenset[str],
        shared: frozenset[str],
    ) -> None:
        self.old, self.old_spec, self.new_spec = old, old_spec, new_spec
        self.reset, self.shared = reset, shared
        named = reachable(new_spec, uses)
        # A section can be bound though no code names it: because something in it was set.
        bound = [
            name for name, spec in new_spec.maps.items()
            if spec.is_data and name in old and name not in named
        ]  # fmt: skip
        self.uses = [name for name in new_spec.maps if name in named or name in bound]
        self.bound = bound
        self.converter = (
            Converter(old_spec.btf, new_spec.btf) if old_spec.btf and new_spec.btf else None
        )
        self.items: dict[str, Item] = {}
        self.carried: dict[str, Map] = {}
        self.steps: list[Step] = []
        self.differences: list[tuple[str, str]] = []

    def run(self) -> Plan:
        self._check_reset()
        sections = SectionPlanner(
            self.old, self.old_spec, self.new_spec, self.uses, self.reset, self.shared
        ).run()
        self.items |= sections.items
        self.carried |= sections.carried
        self.steps += sections.steps
        self.differences += sections.differences
        later = []
        for name in self.uses:
            if self.new_spec.maps[name].is_data:
                continue
            if self.new_spec.maps[name].type in _OF_MAPS:
                later.append(name)  # whether they go on depends on what is in them
            else:
                self._map(name)
        for name in later:
            self._map(name)
        for name in self.old:
            if name not in self.items and name not in self.uses:
                self.items[name] = Item(name, Action.DROPPED)
        if self.differences:
            raise self._refusal()
        order = [*self.uses, *(name for name in self.items if name not in self.uses)]
        in_outer = [
            target
            for name in self.carried
            if name in self.new_spec.maps and self.new_spec.maps[name].type in _OF_MAPS
            for target in self.new_spec.maps[name].slots.values()
            if target in self.carried
        ]
        return Plan(
            tuple(self.items[name] for name in order if name in self.items),
            self.new_spec, self.carried, tuple(self.steps),
            tuple(dict.fromkeys([*in_outer, *self.bound])),
        )  # fmt: skip

    def _check_reset(self) -> None:
        known = {*self.uses, *self.old}
        for name in sorted(self.reset - known):
            raise UsageError(
                f"--reset {escape(name)}: neither program has a map {escape(name)}",
                hint=did_you_mean(name, known, "their maps are"),
            )

    def _refusal(self) -> CarryError:
        found = list(dict.fromkeys(self.differences))
        names = list(dict.fromkeys(name for name, _ in found))
        words = "; ".join(f"{escape(name)}: {why}" for name, why in found)
        hint = "start anew: " + " ".join(f"--reset {escape(name)}" for name in names)
        return CarryError(f"the new object cannot take over {words}", tuple(found), hint)

    def _refuse(self, name: str, why: str) -> None:
        self.differences.append((name, why))

    # --- one map ---

    def _map(self, name: str) -> None:
        spec = self.new_spec.maps[name]
        if name in self.reset:
            self.items[name] = Item(name, Action.RESET)
            return
        if name not in self.old:
            self.items[name] = Item(name, Action.NEW)
            return
        live, was = self.old[name], self.old_spec.maps.get(name)
        if was is None:
            self._refuse(
                name, "the object that runs does not define it, so what is in it is not known"
            )
            return
        grown = self._compare(name, live, was, spec)
        if grown is None:
            return
        if spec.type == MapType.PROG_ARRAY and name not in self.shared:
            self.items[name] = plan_prog_array(
                live, self.old_spec, self.new_spec, name, self._refuse
            )
            return
        details = self._resized(name, live, was, spec)
        if grown or details or self._reflagged(live, spec):
            self._entries(name, live, was, spec, grown, details)
        elif spec.type in _OF_MAPS:
            self._outer(name, live, was, spec)
        else:
            self._carry(name, live)

    def _carry(self, name: str, live: Map) -> None:
        self.carried[name] = live
        spec = self.new_spec.maps[name]
        details: tuple[Detail, ...] = ()
        if (
            spec.value_type_id
            and self.new_spec.btf
            and has_callbacks(self.new_spec.btf, spec.value_type_id)
        ):
            text = f"{escape(name)}: its timers run the old program's callbacks until the new one sets its own"
            details = (Detail(Change.NOTE, text),)
        self.items[name] = Item(name, Action.CARRIED, details)

    def _outer(self, name: str, live: Map, was: MapSpec, spec: MapSpec) -> None:
        known = {key: one for key, one in self.old.items() if key not in self.reset}
        found = plan_outer(name, live, was, spec, known, self.carried)
        if isinstance(found, str):
            self._refuse(name, found)
        elif found:
            self.items[name] = Item(
                name, Action.NEW, (Detail(Change.NOTE, f"{escape(name)} is filled as the new object says"),)
            )  # fmt: skip
        else:
            self._carry(name, live)

    # --- comparing ---

    def _compare(self, name: str, live: Map, was: MapSpec, spec: MapSpec) -> list[Detail] | None:
        """What has grown (nothing: an empty list); None, and refused, where the map cannot go on."""
        info = live.info
        if info.type != spec.type:
            self._refuse(name, f"it is of type {type_name(info.type)}, not {type_name(spec.type)}")
            return None
        if (info.key_size, info.value_size) != (was.key_size, was.value_size):
            self._refuse(
                name, f"it has keys of {info.key_size} and values of {info.value_size} bytes, not what its object says"
            )  # fmt: skip
            return None
        problems = []
        if info.key_size != spec.key_size:
            problems.append(f"its key had {info.key_size} bytes, has {spec.key_size}")
        elif differs := self._key_difference(was, spec):
            problems.append(differs)
        flags = (own_flags(info.flags, spec) ^ own_flags(spec.flags, spec)) & ~_INDIFFERENT
        if flags:
            problems.append(f"its flags {flag_words(flags)} differ")
        if was.map_extra != spec.map_extra:
            problems.append(f"its map_extra was {was.map_extra}, is {spec.map_extra}")
        if spec.type in _OF_MAPS and (inner := self._inner_difference(was, spec)):
            problems.append(inner)
        grown: list[Detail] = []
        if problem := self._value_difference(name, live, was, spec, grown):
            problems.append(problem)
        for one in problems:
            self._refuse(name, one)
        return None if problems else grown

    def _key_difference(self, was: MapSpec, spec: MapSpec) -> str | None:
        if not (self.converter and was.key_type_id and spec.key_type_id):
            return None
        return difference(
            self.converter.old,
            was.key_type_id,
            self.converter.new,
            spec.key_type_id,
            name="its key",
        )

    def _value_difference(
        self, name: str, live: Map, was: MapSpec, spec: MapSpec, grown: list[Detail]
    ) -> str | None:
        if not (self.converter and was.value_type_id and spec.value_type_id):
            if live.info.value_size != spec.value_size:
                return f"its value had {live.info.value_size} bytes, has {spec.value_size}, and no types (BTF) say why"
            return None
        a, b = self.converter.old, self.converter.new
        if difference(a, was.value_type_id, b, spec.value_type_id) is None:
            return None
        old, new = shape(a, was.value_type_id), shape(b, spec.value_type_id)
        if why := not_grown(a, old, b, new, "its value"):
            return why
        found = self.converter.types(old, new, "its value")
        grown += [
            Detail(Change.GROWN, f"{escape(name)}: {text}") for text in found.grown
        ] + [
            Detail(Change.NEW, f"{escape(name)}: {escape(one)} is new", one)
            for one in (path.removeprefix("its value.") for path in found.added)
        ]  # fmt: skip
        if not grown:
            grown.append(
                Detail(
                    Change.GROWN,
                    f"{escape(name)}: its value grew from {old.size} to {new.size} bytes",
                )
            )
        return None

    def _inner_difference(self, was: MapSpec, spec: MapSpec) -> str | None:
        """In what the maps of a map of maps differ: the kernel compares the same (bpf_map_meta_equal)."""
        a, b = was.inner, spec.inner
        if a is None or b is None:
            return None if a is b else "only one of the objects says what maps are in it"
        for what in ("type", "key_size", "value_size", "max_entries", "flags"):
            before, after = getattr(a, what), getattr(b, what)
            if before != after:
                return f"the maps in it had {what} {before}, have {after}"
        if self.converter and a.value_type_id and b.value_type_id:
            return difference(
                self.converter.old, a.value_type_id, self.converter.new, b.value_type_id,
                name="the value of the maps in it",
            )  # fmt: skip
        return None

    @staticmethod
    def _reflagged(live: Map, spec: MapSpec) -> bool:
        return own_flags(live.info.flags, spec) != own_flags(spec.flags, spec)

    def _resized(self, name: str, live: Map, was: MapSpec, spec: MapSpec) -> list[Detail]:
        """A number of entries that differs. What was set at attach (``--map-size``) is set in the new object too."""
        there = live.info.max_entries
        if there != asked(was):
            if spec.max_entries != there:
                spec.max_entries = there
            return []
        wanted = asked(spec)
        if wanted == there:
            return []
        return [Detail(Change.RESIZED, f"{escape(name)}: from {there} to {wanted} entries")]

    # --- moving ---

    def _entries(
        self, name: str, live: Map, was: MapSpec, spec: MapSpec, grown: list[Detail], resized: list[Detail]
    ) -> None:  # fmt: skip
        why = grown or resized
        what = why[0].text.removeprefix(f"{escape(name)}: ") if why else "its flags differ"
        if name in self.shared:
            self._refuse(name, f"others use it too, so it has to stay as it is: {what}")
            return
        if spec.type not in MIGRATABLE:
            self._refuse(
                name, f"{what}; what is in a map of type {type_name(spec.type)} cannot be moved"
            )
            return
        ops = self._ops(name, live, was, spec)
        if ops is None:
            return
        if problem := too_small(live, entries(spec)):
            self._refuse(name, problem)
            return
        self.steps.append(
            EntriesStep(name, spec, live, tuple(ops), kept_bits(ops, spec.value_size))
        )
        self.items[name] = Item(name, Action.ENTRIES, tuple(grown + resized))

    def _ops(self, name: str, live: Map, was: MapSpec, spec: MapSpec) -> list[Op] | None:
        if not (self.converter and was.value_type_id and spec.value_type_id):
            size = live.info.value_size
            # Without a type these widths are counters far more often than anything else.
            counted = size in (4, 8)
            meaning = Meaning.COUNT if counted else Meaning.WORTH
            return [Op("value", 0, 0, size, size, number=counted, meaning=meaning)]
        old = shape(self.converter.old, was.value_type_id)
        found = self.converter.types(
            old, shape(self.converter.new, spec.value_type_id), "its value"
        )
        problems = found.problems + [
            f"{one.name} is a pointer, which cannot be copied" for one in found.pointers
        ]
        for problem in problems:
            self._refuse(name, problem)
        return None if problems else found.ops
