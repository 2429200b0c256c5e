"""Output of ``map dump``, ``lookup``, ``update`` and ``delete``."""

import json
import sys
from typing import Any

from netbpf.bpf.btf.raw import decode_raw
from netbpf.bpf.btf.values import Value, format_value
from netbpf.cli.output import print_json
from netbpf.insight.entries import Entries, MapEntry
from netbpf.insight.fast_json import entry_json
from netbpf.insight.names import map_type_name


def _head(found: Entries) -> dict[str, Any]:
    return {"id": found.info.id, "name": found.info.name, "type": map_type_name(found.info.type)}


def _untyped(value: str) -> str:
    """Bytes without a type stand for themselves, a number's both ways: nobody knows which it is meant to be read."""
    return f"{value} ({int(value, 16)})" if value.startswith("0x") else value


def _value(found: Entries, value: Value) -> str:
    """A value as a line has it; ids have the name of what they mean."""
    if isinstance(value, str) and found.decoders.value is decode_raw:
        return _untyped(value)
    return found.held(value) or format_value(value)


def print_dump(found: Entries, limit: int | None, *, as_json: bool) -> None:
    """All entries, written as they are read: a map may have millions."""
    if not as_json:
        untyped = found.decoders.key is decode_raw
        for entry in found.entries(limit):
            key = _untyped(str(entry.key)) if untyped else format_value(entry.key)
            sys.stdout.write(f"{key}: {_value(found, entry.value)}\n")
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
    sys.stdout.write(f"{_value(found, one.value)}\n")
    for cpu, value in enumerate(one.per_cpu):
        sys.stdout.write(f"  cpu {cpu}: {format_value(value)}\n")


def print_deleted(found: Entries, key: str) -> None:
    """Which entry is gone, as JSON."""
    print_json("map_delete", {**_head(found), "key": found.decoders.key(found.key(key))})
