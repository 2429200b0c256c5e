"""Output of ``map dump``, ``lookup``, ``update`` and ``delete``."""

import json
import sys
from typing import Any

from netbpf.bpf.btf.values import format_value
from netbpf.cli.output import print_json
from netbpf.insight.dump import entry_json, plain_value
from netbpf.insight.entries import Entries, MapEntry
from netbpf.insight.names import map_type_name


def _head(found: Entries) -> dict[str, Any]:
    return {"id": found.info.id, "name": found.info.name, "type": map_type_name(found.info.type)}


def print_dump(found: Entries, limit: int | None, *, as_json: bool) -> None:
    """All entries, written as they are read: a map may have millions."""
    if not as_json:
        found.write_lines(limit=limit)
        return
    head = json.dumps({"schema": "netbpf.map_dump/1", **_head(found)}, separators=(",", ":"))
    found.check_readable()
    sys.stdout.write(f'{head[:-1]},"entries":[')
    total = found.write_json(limit=limit)
    sys.stdout.write(f'],"total":{total}}}\n')


def print_entry(found: Entries, one: MapEntry, *, as_json: bool) -> None:
    """One entry; of a per-CPU map the parts too."""
    if as_json:
        print_json("map_entry", {**_head(found), **entry_json(one)})
        return
    sys.stdout.write(f"{plain_value(found, one.value)}\n")
    for cpu, value in enumerate(one.per_cpu):
        sys.stdout.write(f"  cpu {cpu}: {format_value(value)}\n")


def print_deleted(found: Entries, key: str) -> None:
    """Which entry is gone, as JSON."""
    print_json("map_delete", {**_head(found), "key": found.decoders.key(found.key(key))})
