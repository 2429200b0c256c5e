"""Where a TOML file says what: the parser tells only where it could not go on."""

import re
from collections.abc import Iterable
from typing import Final

_HEADER: Final = re.compile(r"^\s*(\[\[?)\s*([^\[\]]+?)\s*\]\]?\s*(?:#.*)?$")
_KEY: Final = re.compile(
    r"""^\s*((?:"[^"]*"|'[^']*'|[A-Za-z0-9_-]+)(?:\s*\.\s*(?:"[^"]*"|'[^']*'|[\w-]+))*)\s*="""
)
_LONG: Final = ('"""', "'''")

Place = tuple[str | int, ...]


class Lines:
    """Line numbers, from 1, by place: ``("case", 0, "packet")``, ``("packets", "dns")``, ``("case", 2, "step", 0)``."""

    def __init__(self, text: str) -> None:
        self._lines: dict[Place, int] = {}
        counts: dict[Place, int] = {}
        table: Place = ()
        inside = ""
        for number, line in enumerate(text.split("\n"), 1):
            if inside:
                inside = "" if inside in line else inside
                continue
            if header := _HEADER.match(line):
                table = self._table(header[2], header[1] == "[[", counts)
                self._lines.setdefault(table, number)
            elif key := _KEY.match(line):
                path = tuple(part.strip().strip("\"'") for part in _parts(key[1]))
                for end in range(1, len(path) + 1):
                    self._lines.setdefault((*table, *path[:end]), number)
                inside = next((q for q in _LONG if line.count(q, key.end()) == 1), "")

    @staticmethod
    def _table(name: str, is_array: bool, counts: dict[Place, int]) -> Place:
        place: Place = ()
        parts = [part.strip().strip("\"'") for part in _parts(name)]
        for at, part in enumerate(parts):
            place = (*place, part)
            if at == len(parts) - 1 and is_array:
                counts[place] = counts.get(place, -1) + 1
                for other in [
                    one for one in counts if len(one) > len(place) and one[: len(place)] == place
                ]:
                    del counts[other]  # the tables within an element begin anew with the next one
            if place in counts:
                place = (*place, counts[place])
        return place

    def of(self, *place: str | int) -> int:
        """The line of a place, or of the nearest that encloses it; 1 for none."""
        while place:
            # Of several tables of a name, the first.
            found = self._lines.get(place) or self._lines.get((*place, 0))
            if found:
                return found
            place = place[:-1]
        return 1

    def of_keys(self, table: Iterable[str], *place: str | int) -> dict[str, int]:
        """The lines of the keys of a table, some of which may be the whole file's."""
        return {
            key: self._lines.get((*place, key)) or self._lines.get((key,)) or self.of(*place)
            for key in table
        }


def _parts(name: str) -> list[str]:
    """A dotted name in its parts; dots between quotes do not count."""
    return [one[0] for one in re.finditer(r"""(?:"[^"]*"|'[^']*'|[^.])+""", name)]
