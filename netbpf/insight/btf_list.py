"""The BTF objects of the kernel, and whose types they are. What vanishes meanwhile is left out."""

from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass

from netbpf._sys.describe import btf_details
from netbpf.bpf.holders import HolderTable, Process
from netbpf.bpf.ids import btf_ids, map_ids, program_ids
from netbpf.bpf.map import Map
from netbpf.bpf.program import Program
from netbpf.errors import NotAttachedError
from netbpf.insight.types import open_btf


@dataclass(frozen=True, slots=True)
class KernelBtf:
    """A BTF: ``size`` in bytes, ids and names of the programs and maps that have their types there, who has it open.

    ``kernel`` says that it is the kernel's own or a module's; others have no name.
    """

    id: int
    name: str
    size: int
    kernel: bool
    programs: tuple[tuple[int, str], ...] = ()
    maps: tuple[tuple[int, str], ...] = ()
    processes: tuple[Process, ...] = ()


def btfs(which: int | None = None) -> list[KernelBtf]:
    """All that there are, by id, or one of them. Raises NotAttachedError where that is gone, PermissionDeniedError."""
    programs = _users(program_ids, Program.by_id)
    maps = _users(map_ids, Map.by_id)
    table, found = HolderTable("btf"), []
    for each in btf_ids() if which is None else (which,):
        with suppress(*(() if which is not None else (NotAttachedError,))), open_btf(each) as fd:
            details = btf_details(fd.fileno())
            number = details.id
            found.append(
                KernelBtf(
                    number, details.name, details.size, details.kernel, tuple(programs.get(number, ())),
                    tuple(maps.get(number, ())), table.processes("btf", number),
                )
            )  # fmt: skip
    return found


def _users(
    ids: Callable[[], Iterator[int]], by_id: "Callable[[int], Program | Map]"
) -> dict[int, list[tuple[int, str]]]:
    found: dict[int, list[tuple[int, str]]] = {}
    for number in ids():
        with suppress(NotAttachedError), by_id(number) as one:
            if one.info.btf_id:
                found.setdefault(one.info.btf_id, []).append((number, one.info.name))
    return found
