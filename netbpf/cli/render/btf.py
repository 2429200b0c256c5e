"""Output of ``btf``: bpftool's field names and words."""

import json
import sys
from collections.abc import Iterable, Iterator
from itertools import chain, islice

from netbpf.bpf.btf.listing import lines
from netbpf.cli.output import Line, Table, print_json, say
from netbpf.cli.render.holders import process_words, processes_json
from netbpf.insight.btf_list import KernelBtf
from netbpf.insight.types import Types
from netbpf.text import escape

_AT_ONCE = 1000  # types; the kernel has a hundred thousand


def print_btfs(found: list[KernelBtf], *, as_json: bool) -> None:
    """All BTF objects."""
    if as_json:
        print_json("btf", {"btfs": [_json(one) for one in found]})
        return
    table = Table("ID", "NAME", "SIZE", "PROGRAMS", "MAPS", "HELD BY", right=("ID", "SIZE"))
    for one in found:
        table.add_row(
            str(one.id), escape(one.name) or "-", str(one.size), _users(one.programs), _users(one.maps),
            ", ".join(process_words(one.processes)),
        )  # fmt: skip
    say([Line("there is no BTF")] if table.empty else table.lines())


def _users(users: tuple[tuple[int, str], ...]) -> str:
    few = 3
    words = [f"{number} {escape(name)}".rstrip() for number, name in users[:few]]
    return ", ".join(words) + (f" and {len(users) - few} more" if len(users) > few else "")


def _json(one: KernelBtf) -> dict[str, object]:
    return {
        "id": one.id,
        "size": one.size,
        "prog_ids": [number for number, _ in one.programs],
        "map_ids": [number for number, _ in one.maps],
        "pids": processes_json(one.processes),
        "kernel": one.kernel,
        "name": one.name,
    }


def print_header(found: Types) -> None:
    """A C header, whole or not at all: half of one would not compile."""
    sys.stdout.write("".join(found.header()))


def print_types(found: Types, *, as_json: bool) -> None:
    """Each type, as it comes: ``| head`` has to wait for none."""
    every = found.described()
    if not as_json:
        for batch in _batches(line for one in every for line in lines(one)):
            sys.stdout.write("\n".join(batch) + "\n")
        return
    sys.stdout.write('{"schema":"netbpf.btf_dump/1","types":[')
    mark = ""
    for batch in _batches(json.dumps(one, separators=(",", ":")) for one in every):
        sys.stdout.write(mark + ",".join(batch))
        mark = ","
    sys.stdout.write("]}\n")


def _batches(every: Iterable[str]) -> Iterator[list[str]]:
    source = iter(every)
    for first in source:
        yield list(islice(chain((first,), source), _AT_ONCE))
