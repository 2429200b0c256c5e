"""Existing maps in the place of an object's own: another member's (``--share``), or by pin or id (``--map``).

Nothing is shared that does not fit: type, sizes, flags and, where both sides have types, the layout of keys and values
are those of the object. Only the number of entries may differ, which is said aloud.
"""

import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self

from netbpf.bpf.map import Map
from netbpf.bpf.object import ObjectSpec
from netbpf.constants import Hook
from netbpf.errors import (
    NotAttachedError,
    NotManagedError,
    ObjectError,
    UsageError,
)
from netbpf.manager.lookup import meant
from netbpf.manager.making import Making
from netbpf.manager.mapfit import check_fit
from netbpf.manager.mappins import open_user_pin
from netbpf.manager.status import Records, describe
from netbpf.net.interfaces import resolve
from netbpf.net.netns import Namespace
from netbpf.net.occupants import occupants
from netbpf.net.rtnetlink import Session
from netbpf.text import did_you_mean, escape

# An interface's name holds neither a slash nor a colon (net/core/dev.c, dev_valid_name).
_MEMBER = re.compile(
    r"((?P<netns>.+?):)??(?P<interface>[^/:\s]+)/(?P<hook>xdp|tc/ingress|tc/egress)/(?P<rest>.+)"
)
_SHARE_FORM = (
    "such as flows=eth0/xdp/acl, flows=eth0/tc/egress/acl/their_map or flows=NETNS:eth0/xdp/acl"
)
_MAP_FORM = "such as flows=pinned:/sys/fs/bpf/flows or flows=id:12"
_MOST_ID = (1 << 32) - 1

# The maps by name of a member that the same attach brings, or None where it brings none of that name there.
Siblings = Callable[[str, Hook, str], "dict[str, Map] | None"]


class Finder(NamedTuple):
    """Where maps are looked for: the namespace of the attach, and what the same attach brings."""

    session: Session
    siblings: Siblings


@dataclass(frozen=True, slots=True)
class Wish(ABC):
    """``LEFT=RIGHT`` as it was typed: ``left`` names the object's map, ``right`` what is to take its place."""

    left: str
    right: str

    @abstractmethod
    def open(self, own: str, finder: Finder) -> Map:
        """The map for the object's map ``own``, open."""


class ByNumber(Wish):
    """``NAME=id:N``."""

    def open(self, own: str, finder: Finder) -> Map:
        """Raises UsageError for what is no id, ObjectError where there is no such map, PermissionDeniedError."""
        text = self.right.removeprefix("id:")
        number = int(text) if text.isascii() and text.isdecimal() else 0
        if not 0 < number <= _MOST_ID:
            raise UsageError(f"--map {escape(self.left)}: '{escape(text)}' is no map id")
        try:
            return Map.by_id(number)
        except NotAttachedError:
            raise ObjectError(f"--map {escape(self.left)}: there is no map {number}") from None


class ByPin(Wish):
    """``NAME=pinned:PATH``."""

    def open(self, own: str, finder: Finder) -> Map:
        """Raises ObjectError where no map is pinned there, NetbpfError for a symbolic link."""
        return open_user_pin(Path(self.right.removeprefix("pinned:")), f"--map {escape(self.left)}")


class ByMember(Wish):
    """``NAME=[NETNS:]IFACE/HOOK/MEMBER[/MAP]``."""

    def open(self, own: str, finder: Finder) -> Map:
        """Raises what finding a member raises, ObjectError with near names where it has no such map."""
        found = _MEMBER.fullmatch(self.right)
        assert found
        with ExitStack() as stack:
            session = finder.session
            if found["netns"] is not None:
                namespace = stack.enter_context(Namespace.open(found["netns"]))
                session = stack.enter_context(Session(namespace))
            hook = Hook(found["hook"])
            # A member may be called a/b.
            readings = [(found["rest"], own)]
            if "/" in found["rest"]:
                member, _, theirs = found["rest"].rpartition("/")
                readings.append((member, theirs))
            for number, (member, theirs) in enumerate(readings):
                try:
                    return self._of(finder, session, found["interface"], hook, member, theirs)
                except NotAttachedError:
                    if number == len(readings) - 1:
                        raise
        raise AssertionError("there is at least one reading")

    def _of(
        self, finder: Finder, session: Session, interface: str, hook: Hook, member: str, theirs: str
    ) -> Map:
        place = f"{escape(interface)}/{hook}/{escape(member)}"
        if session is finder.session and (fresh := finder.siblings(interface, hook, member)):
            if theirs not in fresh:
                raise self._no_map(place, theirs, fresh)
            return Map(fresh[theirs].fd.duplicate())
        known = Records()
        try:
            maps = dict(meant(session, known, interface, (hook,), member).member.maps)
        except NotManagedError as error:
            raise _by_number(session, known, interface, hook, own=self.left) or error from None
        if theirs not in maps:
            raise self._no_map(place, theirs, maps)
        try:
            return Map.by_id(maps[theirs])
        except NotAttachedError:
            raise ObjectError(f"map {escape(theirs)} of {place} is gone") from None

    @staticmethod
    def _no_map(place: str, theirs: str, known: Iterable[str]) -> ObjectError:
        hint = did_you_mean(theirs, known, "its maps are")
        return ObjectError(f"{place} has no map {escape(theirs)}", hint=hint)


def _by_number(
    session: Session, known: Records, interface: str, hook: Hook, *, own: str
) -> NotManagedError | None:
    """What to say of a program that netbpf did not attach: its maps have ids all the same."""
    index = resolve(session, interface).index
    found = next((o for o in occupants(session, index, hooks=(hook,)) if o.hook is hook), None)
    attachment = describe(found, known) if found else None
    if attachment is None:
        return None
    listed, first = [], 0
    for number in attachment.program.map_ids[:12]:
        try:
            with Map.by_id(number) as one:
                listed.append(f"{escape(one.info.name)} (id {number})")
                first = first or number
        except NotAttachedError:
            continue
    maps = f"its maps are {', '.join(listed)}" if listed else "it has no maps"
    return NotManagedError(
        f"{escape(interface)} {hook} runs {escape(attachment.program.name)}, which netbpf did not attach",
        hint=maps + (f"; share one by its number: --map {escape(own)}=id:{first}" if first else ""),
    )


# --- what was typed ---


def wishes(share: Sequence[str], maps: Sequence[str]) -> list[Wish]:
    """What ``--share`` and ``--map`` ask for; UsageError for what they do not take."""
    found: list[Wish] = []
    for text in share:
        left, equals, right = text.partition("=")
        if not equals or not left or not _MEMBER.fullmatch(right):
            raise UsageError(
                f"--share '{escape(text)}' is not MAP=IFACE/HOOK/MEMBER[/MAP]", hint=_SHARE_FORM
            )
        found.append(ByMember(left, right))
    for text in maps:
        left, equals, right = text.partition("=")
        kind = right.partition(":")[0]
        if not equals or not left or kind not in ("pinned", "id") or right in ("pinned:", "id:"):
            raise UsageError(
                f"--map '{escape(text)}' is not NAME=pinned:PATH or NAME=id:N", hint=_MAP_FORM
            )
        found.append(ByNumber(left, right) if kind == "id" else ByPin(left, right))
    return found


def owner_of_map(
    specs: Sequence[ObjectSpec], names: Sequence[str], left: str, option: str
) -> tuple[int, str]:
    """Which object has the map ``MAP`` or ``MEMBER.MAP``, and its name there; ``names`` are the members' or programs'.

    Raises ObjectError for a map that none has, with near names, UsageError for one that several have.
    """
    owners = [number for number, spec in enumerate(specs) if left in spec.maps]
    if len(owners) == 1:
        return owners[0], left
    if owners:
        whose = [escape(names[number]) for number in owners if number < len(names)]
        raise UsageError(
            f"{len(owners)} objects have a map {escape(left)}",
            hint=f"say whose: {option} " + " or ".join(f"{one}.{escape(left)}" for one in whose)
            if whose
            else None,
        )
    for number, spec in enumerate(specs):
        known_as = [*names[number : number + 1], *(one.name for one in spec.programs)]
        for name in known_as:
            rest = left.removeprefix(f"{name}.")
            if rest != left and rest in spec.maps:
                return number, rest
    known = [name for spec in specs for name in spec.maps]
    one = specs[0].elf.origin + " has no" if len(specs) == 1 else "none of the objects has a"
    raise ObjectError(f"{one} map {escape(left)}", hint=did_you_mean(left, known, "the maps are"))


Wishes = dict[str, Wish]


def by_object(
    specs: Sequence[ObjectSpec], names: Sequence[str], wanted: Sequence[Wish]
) -> list[Wishes]:
    """The wishes of each object by the name of its map."""
    found: list[Wishes] = [{} for _ in specs]
    for one in wanted:
        option = "--share" if isinstance(one, ByMember) else "--map"
        number, name = owner_of_map(specs, names, one.left, option)
        if name in found[number]:
            raise UsageError(f"map {escape(name)} is given twice")
        found[number][name] = one
    return found


# --- one object ---


class GivenMaps:
    """The existing maps that one object is to use, open until the block ends. ``notes`` say what differs."""

    def __init__(
        self, spec: ObjectSpec, wanted: Wishes, finder: Finder, fixed: Collection[str] = ()
    ) -> None:
        """Open and check them; ``fixed`` are the maps for which something else was asked (``--set``, ``--map-size``).

        Raises what opening raises, ObjectError for maps that do not fit, UsageError for contradictions.
        """
        self.maps: dict[str, Map] = {}
        notes: list[str] = []
        try:
            for name, one in wanted.items():
                if name in fixed:
                    raise _contradiction(spec, name)
                self.maps[name] = one.open(name, finder)
                notes += check_fit(spec, spec.maps[name], self.maps[name], escape(one.right))
        except BaseException:
            self.close()
            raise
        self.notes = tuple(notes)

    def check_used(self, program: str, used: Collection[str]) -> None:
        """ObjectError for a map that was given and that the program does not use."""
        for name in self.maps:
            if name not in used:
                raise ObjectError(
                    f"{escape(program)} uses no map {escape(name)}, so there is nothing to share",
                    hint=did_you_mean(name, used, "its maps are"),
                )

    def close(self) -> None:
        """Let go of them."""
        for one in self.maps.values():
            one.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def given_to(
    spec: ObjectSpec,
    request: Making,
    namespace: Namespace,
    touched: Collection[str],
    stack: ExitStack,
) -> GivenMaps:
    """What takes the place of the maps of a request's only object; ``touched`` are those that it sets variables of.

    ``stack`` closes what they are looked for with. Raises UsageError.
    """
    [wanted] = by_object([spec], (), wishes(request.share, request.maps))
    finder = Finder(stack.enter_context(Session(namespace)), lambda *_: None)
    sized = (one.partition("=")[0] for one in request.map_sizes)
    return GivenMaps(spec, wanted, finder, {*touched, *sized})


def _contradiction(spec: ObjectSpec, name: str) -> UsageError:
    if spec.maps[name].is_data:
        return UsageError(
            f"--set changes a variable in {escape(name)}, which is shared",
            hint="netbpf set IFACE VAR=VALUE changes it for all that share it",
        )
    return UsageError(
        f"--map-size {escape(name)}: it is shared, and keeps the size it has",
        hint="leave --map-size away",
    )
