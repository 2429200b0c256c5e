"""Programs in TEST_RUN, loaded once and used by one test after the other.

The verifier takes longer than most tests. A program is given out as if it had just been loaded: its variables and maps
are what they were then. Where that cannot be done (queues, ring buffers, large arrays), it is loaded anew.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

from netbpf.bpf.btf.encode import Encodable
from netbpf.bpf.loader import Loaded
from netbpf.constants import Hook, MapType
from netbpf.packets.testrun import Bench
from netns_fixtures import residue
from netns_fixtures.objects import Object, content

if TYPE_CHECKING:
    from netbpf.bpf.map import Map

_EMPTIED: Final = frozenset({
    MapType.HASH, MapType.LRU_HASH, MapType.PERCPU_HASH, MapType.LRU_PERCPU_HASH, MapType.LPM_TRIE,
})  # fmt: skip
_ZEROED: Final = frozenset({MapType.ARRAY, MapType.PERCPU_ARRAY})
# Entries of arrays: reading more takes longer than loading most programs.
_MOST_ENTRIES: Final = 8192
_MOST_IDLE: Final = 64

Key = tuple[bytes, str | None, Hook | None, str]


class Pool:
    """Loaded programs that no test uses at the moment."""

    def __init__(self) -> None:
        self._idle: dict[Key, tuple[Bench, dict[str, bytes]]] = {}
        self._keys: dict[int, tuple[Key, dict[str, bytes]]] = {}

    def take(
        self,
        object_: Object,
        *,
        program: str | None = None,
        hook: Hook | None = None,
        variables: Mapping[str, Encodable] | None = None,
    ) -> Bench:
        """A program as if it had just been loaded. Raises what ``Bench.open`` raises."""
        data, name = content(object_)
        key = data, program, hook, repr(sorted((variables or {}).items()))
        if key in self._idle:
            bench, initial = self._idle.pop(key)
            residue.release(*held(bench))
            _rewind(bench.loaded, initial)
        else:
            from netbpf.bpf.object import ObjectSpec

            bench = Bench.open(
                ObjectSpec(data, name), program=program, hook=hook, settings=variables or ()
            )
            initial = _initial(bench.loaded)
        self._keys[id(bench)] = key, initial
        return bench

    def give_back(self, bench: Bench) -> None:
        """The test is over: keep the program for the next one, or let go of it."""
        key, initial = self._keys.pop(id(bench))
        if key in self._idle or not _rewindable(bench.loaded):
            bench.close()
            return
        if len(self._idle) >= _MOST_IDLE:
            self._let_go(next(iter(self._idle)))
        self._idle[key] = bench, initial
        residue.keep(*held(bench))

    def _let_go(self, key: Key) -> None:
        bench, _ = self._idle.pop(key)
        residue.release(*held(bench))
        bench.close()

    def close(self) -> None:
        """Let go of all of them."""
        for key in list(self._idle):
            self._let_go(key)


POOL: Final = Pool()  # of this process, which is a worker of xdist where that is used


def held(bench: Bench) -> list[tuple[str, object]]:
    """What a program keeps open, as leaks are named."""
    loaded = bench.loaded
    found: list[tuple[str, object]] = []
    for program in (loaded.program, *loaded.siblings.values()):
        found += [("descriptor", program.fd.fileno()), ("program", program.info.id)]
    for one in loaded.maps.values():
        found += [("descriptor", one.fd.fileno()), ("map", one.info.id)]
    return found


def _is_data(loaded: Loaded, name: str) -> bool:
    return loaded.spec.maps[name].is_data


def _rewindable(loaded: Loaded) -> bool:
    entries = sum(one.info.max_entries for one in loaded.maps.values() if one.info.type in _ZEROED)
    return entries <= _MOST_ENTRIES and all(
        one.info.type in _EMPTIED | _ZEROED for one in loaded.maps.values()
    )


def _initial(loaded: Loaded) -> dict[str, bytes]:
    """The content of variables that can change."""
    return {
        name: one.lookup(bytes(4)) or b""
        for name, one in loaded.maps.items()
        if _is_data(loaded, name) and not one.frozen
    }


def _rewind(loaded: Loaded, initial: Mapping[str, bytes]) -> None:
    for name, one in loaded.maps.items():
        if name in initial:
            one.update(bytes(4), initial[name])
        elif not _is_data(loaded, name):
            _clear(one)


def _clear(one: "Map") -> None:
    if one.info.type in _EMPTIED:
        for key in [bytes(key) for key, _ in one.entries()]:
            one.delete(key)
    else:
        nothing = bytes(one.entry_size)
        for key in [bytes(key) for key, _ in one.nonzero()]:
            one.update(key, nothing)
