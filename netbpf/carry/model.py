"""What an upgrade does with each map, in values that people and JSON can take."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from netbpf.bpf.map import Map
from netbpf.bpf.object import ObjectSpec
from netbpf.carry.steps import Step
from netbpf.errors import ObjectError


class Action(StrEnum):
    """What becomes of a map.

    ``carried``: the same live map goes on. ``variables``: a section of variables moves into a new map, by name and
    type. ``entries``: a map moves into a new one, entry by entry. ``new``: it starts as the new object says.
    ``reset``: so it does because that was asked for. ``dropped``: the new program does not use it.
    """

    CARRIED = "carried"
    VARIABLES = "variables"
    ENTRIES = "entries"
    NEW = "new"
    RESET = "reset"
    DROPPED = "dropped"


class Change(StrEnum):
    """What becomes of a variable, or of something else in a map."""

    KEPT = "kept"
    MOVED = "moved"
    WIDENED = "widened"
    NARROWED = "narrowed"
    CONVERTED = "converted"
    NEW = "new"
    VANISHED = "vanished"
    SETTING = "setting kept"
    GROWN = "grown"
    RESIZED = "resized"
    NOTE = "note"


@dataclass(frozen=True, slots=True)
class Detail:
    """One line on a map: ``name`` is the variable or member that it is about, "" for the map as a whole."""

    change: Change
    text: str
    name: str = ""


@dataclass(frozen=True, slots=True)
class Item:
    """One map, or section of variables, by its name in the object."""

    name: str
    action: Action
    details: tuple[Detail, ...] = ()

    @property
    def lines(self) -> tuple[str, ...]:
        """The details for people."""
        return tuple(one.text for one in self.details)

    def as_dict(self) -> dict[str, object]:
        """For JSON."""
        return {
            "name": self.name,
            "action": str(self.action),
            "details": [
                {"change": str(one.change), "name": one.name, "text": one.text}
                for one in self.details
            ],
        }


@dataclass(frozen=True, slots=True)
class Plan:
    """What a new object takes over of a running program's maps: ``items``, in the order of the new object's maps.

    The rest is for ``Carrier``: it needs the live maps open until it is closed. ``extra`` are carried maps that no
    code of the new program names (those in maps of maps): bind them with ``load(extra_maps=...)``, so that they keep
    their names.
    """

    items: tuple[Item, ...]
    spec: ObjectSpec
    carried: Mapping[str, Map] = field(default_factory=dict)
    steps: tuple[Step, ...] = ()
    extra: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, object]:
        """For JSON: ``{"maps": [...]}``."""
        return {"maps": [one.as_dict() for one in self.items]}


class CarryError(ObjectError):
    """Something cannot be carried over; ``differences`` are (map, what is in the way), all there are."""

    def __init__(self, message: str, differences: tuple[tuple[str, str], ...], hint: str) -> None:
        super().__init__(message, hint=hint)
        self.differences = differences


@dataclass(frozen=True, slots=True)
class Merged:
    """What the old program did to one map between the copy and its last packet, and what became of it.

    ``values`` counts the numbers and other values that it changed; ``inserted`` and ``removed`` are entries.
    ``notes`` name what could not be merged: two programs wrote it, or there was no room.
    """

    name: str
    values: int = 0
    inserted: int = 0
    removed: int = 0
    notes: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, object]:
        """For JSON."""
        return {
            "name": self.name,
            "values": self.values,
            "inserted": self.inserted,
            "removed": self.removed,
            "notes": list(self.notes),
        }


@dataclass(frozen=True, slots=True)
class Report:
    """What ``Carrier.finish`` did. ``waited`` is false where the kernel offers no way to wait for the old program."""

    merged: tuple[Merged, ...] = ()
    waited: bool = True

    @property
    def notes(self) -> tuple[str, ...]:
        """What to tell aloud."""
        return tuple(note for one in self.merged for note in one.notes)

    def as_dict(self) -> dict[str, object]:
        """For JSON."""
        return {"waited": self.waited, "merged": [one.as_dict() for one in self.merged]}
