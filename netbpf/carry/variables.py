"""Sections of variables: each variable of the new object finds its old one by name, wherever it lies now."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from netbpf.bpf.btf.compare import difference
from netbpf.bpf.btf.decode import field_decoder
from netbpf.bpf.btf.values import format_value
from netbpf.bpf.map import Map
from netbpf.bpf.mapdefs import MapSpec
from netbpf.bpf.object import ObjectSpec
from netbpf.carry.convert import Conversion, Converter
from netbpf.carry.declared import Variable, fits, member_value, shown, symbols, variables
from netbpf.carry.model import Action, Change, Detail, Item
from netbpf.carry.ops import Op
from netbpf.carry.reading import read_section, value_flags
from netbpf.carry.steps import SectionStep, Source
from netbpf.text import escape


@dataclass(slots=True)
class Sections:
    """What came of planning the sections of two objects. ``differences`` are (section, what is in the way).

    ``touched`` are sections into which settings were written.
    """

    items: dict[str, Item] = field(default_factory=dict)
    carried: dict[str, Map] = field(default_factory=dict)
    steps: list[SectionStep] = field(default_factory=list)
    differences: list[tuple[str, str]] = field(default_factory=list)
    touched: list[str] = field(default_factory=list)


class SectionPlanner:
    """Plans all sections of variables at once: variables may have moved from one to another."""

    def __init__(
        self,
        old: Mapping[str, Map],
        old_spec: ObjectSpec,
        new_spec: ObjectSpec,
        uses: Iterable[str],
        reset: frozenset[str],
        shared: frozenset[str] = frozenset(),
    ) -> None:
        self.new_spec, self.old_spec = new_spec, old_spec
        self.reset, self.shared = reset, shared
        data = {
            name: live for name, live in old.items()
            if name in old_spec.maps and old_spec.maps[name].is_data
        }  # fmt: skip
        self.old = {
            name: live for name, live in data.items()
            if live.info.value_size == old_spec.maps[name].value_size
        }  # fmt: skip
        self.found = Sections()
        for name in data.keys() - self.old.keys() - reset:
            self._refuse(name, "it has not the size that its object says")
        self.used = [name for name in uses if new_spec.maps[name].is_data]
        self.flags = {name: value_flags(old_spec.btf, old_spec.maps[name]) for name in self.old}
        self.content = {
            name: read_section(live, self.flags[name]) for name, live in self.old.items()
        }
        self.details: dict[str, list[Detail]] = {}
        self.converter = (
            Converter(old_spec.btf, new_spec.btf, narrow=True)
            if old_spec.btf and new_spec.btf
            else None
        )

    def run(self) -> Sections:
        """Plan; constants of the new object get their settings."""
        olds = variables(self.old_spec, (name for name in self.old if name not in self.reset))
        news = variables(self.new_spec, self.used)
        pairs = dict(self._pairs(olds, news))
        paired = {id(one) for one in pairs.values()}
        sections = {name: [one for one in news if one.section == name] for name in self.used}
        for name, inside in sections.items():
            self._section(name, [(one, pairs.get(id(one))) for one in inside])
        for one in olds:
            if id(one) not in paired and one.section not in self.found.carried:
                self._gone(one)
        for name in self.old:
            if name not in self.used:
                self._say(name)
                self.found.items[name] = Item(name, Action.DROPPED, self._details(name))
        for name, item in self.found.items.items():
            self.found.items[name] = Item(name, item.action, self._details(name))
        return self.found

    def _details(self, name: str) -> tuple[Detail, ...]:
        return tuple(self.details.get(name, ()))

    def _say(self, section: str, *details: Detail) -> None:
        self.details.setdefault(section, []).extend(details)

    def _refuse(self, section: str, why: str) -> None:
        self.found.differences.append((section, why))

    # --- which is which ---

    def _pairs(self, olds: list[Variable], news: list[Variable]) -> Iterator[tuple[int, Variable]]:
        """(identity of a new variable, the old one) by name; of several of a name, by their order."""
        by_name: dict[str, tuple[list[Variable], list[Variable]]] = {}
        for number, group in enumerate((olds, news)):
            for one in group:
                by_name.setdefault(one.name, ([], []))[number].append(one)
        for name, (before, after) in by_name.items():
            if len(before) == len(after) == 1:
                yield id(after[0]), before[0]
                continue
            rest_before, rest_after = list(before), list(after)
            for section in dict.fromkeys(one.section for one in after):
                a = [one for one in rest_before if one.section == section]
                b = [one for one in rest_after if one.section == section]
                if len(a) == len(b):
                    yield from self._in_order(name, a, b)
                    rest_before = [one for one in rest_before if one not in a]
                    rest_after = [one for one in rest_after if one not in b]
            if not rest_before or not rest_after:
                continue
            if len(rest_before) == len(rest_after):
                yield from self._in_order(name, rest_before, rest_after)
            else:
                where = rest_after[0].section
                self._refuse(
                    where,
                    f"there were {len(before)} variables called {escape(name)}, there are {len(after)}: "
                    "which is which cannot be told",
                )

    def _in_order(
        self, name: str, before: list[Variable], after: list[Variable]
    ) -> Iterator[tuple[int, Variable]]:
        if len(after) > 1:
            text = f"{len(after)} variables are called {escape(name)}: matched by their order"
            self._say(after[0].section, Detail(Change.NOTE, text, name))
        for a, b in zip(before, after, strict=True):
            yield id(b), a

    # --- one section ---

    def _section(self, name: str, pairs: list[tuple[Variable, Variable | None]]) -> None:
        spec, live = self.new_spec.maps[name], self.old.get(name)
        if name in self.reset:
            self.found.items[name] = Item(name, Action.RESET)
        elif spec.read_only:
            self._constants(name, pairs)
        elif live is not None and not self._typed(name):
            self._untyped(name, live, spec)
        elif live is not None and self._identical(name, live, spec):
            self.found.carried[name] = live
            self.found.items[name] = Item(name, Action.CARRIED)
        elif name in self.shared:
            self._refuse(name, "others use it too, and its variables are others, or lie elsewhere")
        else:
            self._migrate(name, spec, pairs)

    def _typed(self, name: str) -> bool:
        return bool(
            self.converter
            and self.new_spec.maps[name].value_type_id
            and self.old_spec.maps[name].value_type_id
        )

    def _identical(self, name: str, live: Map, spec: MapSpec) -> bool:
        old_spec, (a, b) = self.old_spec.maps[name], (self.old_spec.btf, self.new_spec.btf)
        assert a is not None
        assert b is not None
        return (
            fits(live, spec)
            and difference(a, old_spec.value_type_id, b, spec.value_type_id) is None
        )

    def _untyped(self, name: str, live: Map, spec: MapSpec) -> None:
        """Without BTF, symbols still say what lies where, though not of what type it is."""
        before, after = symbols(self.old_spec, name), symbols(self.new_spec, name)
        if fits(live, spec) and before and before == after:
            text = (
                f"{escape(name)} has no BTF; names, places and sizes of its variables are the same"
            )
            self._say(name, Detail(Change.NOTE, text))
            self.found.carried[name] = live
            self.found.items[name] = Item(name, Action.CARRIED)
        else:
            self._refuse(
                name, "its variables have no types (BTF), and do not lie where they did"
                if before != after else "its variables have neither types (BTF) nor names",
            )  # fmt: skip

    def _migrate(
        self, name: str, spec: MapSpec, pairs: list[tuple[Variable, Variable | None]]
    ) -> None:
        ops: dict[str, list[Op]] = {}
        for new, old in pairs:
            if old is None:
                self._say(name, Detail(Change.NEW, f"{escape(new.name)} is new", new.name))
            elif old.constant:
                self._setting(new, old)
            else:
                found = self._convert(new, old)
                if found is not None:
                    ops.setdefault(old.section, []).extend(found.ops)
                    self._tell(new, old, found)
        sources = tuple(
            Source(one, self.old[one], tuple(parts), self.flags[one]) for one, parts in ops.items()
        )
        if not sources and name not in self.old:
            self.found.items[name] = Item(name, Action.NEW)
            return
        self.found.steps.append(SectionStep(name, spec, sources))
        self.found.items[name] = Item(name, Action.VARIABLES)

    def _convert(self, new: Variable, old: Variable) -> Conversion | None:
        """How an old variable becomes a new one; None where it cannot."""
        assert self.converter is not None
        found = self.converter.fields(old.field, new.field, new.name)
        problems = found.problems or self._misfits(old, found)
        for problem in problems:
            self._refuse(new.section, problem)
        return None if problems else found

    def _misfits(self, old: Variable, found: Conversion) -> list[str]:
        """Live values that a new type does not have, and pointers that are not NULL."""
        content = self.content[old.section]
        problems = [
            f"{escape(one.called(place.indexes))} is {value}, which the new type does not have"
            for one in found.ops
            if one.may_not_fit
            for place in one.places()
            if not one.fits(value := one.read_old(content, place.old))
        ]
        problems += [
            f"{escape(one.called(place.indexes))} is a pointer, which means nothing to another program"
            for one in found.pointers
            for place in one.places()
            if one.read_old(content, place.old)
        ]
        return problems

    def _tell(self, new: Variable, old: Variable, found: Conversion) -> None:
        name, content = escape(new.name), self.content[old.section]
        say: list[Detail] = []
        if new.section != old.section:
            text = (
                f"{name} moved from {escape(old.section)} to {escape(new.section)}, with its value"
            )
            say.append(Detail(Change.MOVED, text, new.name))
        say += [Detail(Change.WIDENED, text, new.name) for text in found.widened]
        say += [Detail(Change.NARROWED, text, new.name) for text in found.narrowed]
        say += [Detail(Change.GROWN, text, new.name) for text in found.grown]
        say += [Detail(Change.NEW, f"{escape(one)} is new", one) for one in found.added]
        say += [
            Detail(
                Change.VANISHED,
                f"{escape(one)} is gone{member_value(old.field, one, content)}",
                one,
            )
            for one in found.vanished
        ]
        if not say and old.field.shape.c_name != new.field.shape.c_name:
            text = f"{name}: {old.field.shape.c_name} → {new.field.shape.c_name}"
            say.append(Detail(Change.CONVERTED, text, new.name))
        self._say(new.section, *(say or [Detail(Change.KEPT, f"{name} kept", new.name)]))

    def _gone(self, one: Variable) -> None:
        """A variable that the new program does not have."""
        name, value = escape(one.name), self._value(one)
        changed = self._is_set(one)
        if one.constant and changed:
            self._refuse(
                one.section, f"{name} was set to {value}; the new object has no such constant"
            )
        elif not one.constant:
            self._say(
                one.section, Detail(Change.VANISHED, f"{name} is gone: was {value}", one.name)
            )

    def _value(self, one: Variable) -> str:
        return shown(format_value(field_decoder(one.field)(self.content[one.section])))

    # --- constants, and what they were set to ---

    def _constants(self, name: str, pairs: list[tuple[Variable, Variable | None]]) -> None:
        for new, old in pairs:
            if old is not None:
                self._setting(new, old)
        self.found.items[name] = Item(name, Action.NEW)

    def _is_set(self, old: Variable) -> bool:
        span = slice(old.field.offset, old.field.offset + old.field.size)
        return self.content[old.section][span] != self._default(old.section)[span]

    def _default(self, section: str) -> bytes:
        initial = self.old_spec.maps[section].initial
        assert initial is not None
        return bytes(initial)

    def _setting(self, new: Variable, old: Variable) -> None:
        """Write what a variable was set to, of which one side is a constant, into the new object's initial values."""
        if not self._is_set(old):
            return
        name, value = escape(new.name), self._value(old)
        found = self._convert(new, old)
        if found is None:
            return
        live, default = self.content[old.section], self._default(old.section)
        target = self.new_spec.maps[new.section].initial
        assert target is not None
        for one in found.ops:
            for place in one.changed(default, live):
                if one.number and not one.same:
                    one.write_new(target, place.new, one.read_old(live, place.old))
                else:
                    span = live[place.old : place.old + one.old_size]
                    target[place.new : place.new + one.old_size] = span
        for gone in found.vanished:
            if member_value(old.field, gone, live) != member_value(old.field, gone, default):
                self._refuse(
                    new.section, f"{escape(gone)} was set; the new object has no such member"
                )
        text = f"{name} = {value}: setting kept"
        if new.section != old.section:
            text += f", moved from {escape(old.section)} to {escape(new.section)}"
            if new.constant:
                text += ", where it cannot change any more"
        self._say(new.section, Detail(Change.SETTING, text, new.name))
        self.found.touched.append(new.section)
