"""The forms of a dump: JSON, and lines for people."""

import json
from collections.abc import Callable
from typing import Any, NamedTuple

from netbpf.bpf.btf.values import Value, format_name, format_value

to_json: Callable[[object], str] = json.JSONEncoder(separators=(",", ":")).encode


class Style(NamedTuple):
    """How values are written: any of them, those without a type, names of members, what stands between and around."""

    value: Callable[[Any], str]
    raw: Callable[[Any], str]
    name: Callable[[str], str]
    between: str
    quote: str


def untyped(value: Value) -> str:
    """Bytes without a type for people: a number's both ways, as nobody knows which it is meant to be read."""
    if not isinstance(value, str):
        return format_value(value)
    return f"{value} ({int(value, 16)})" if value.startswith("0x") else value


JSON = Style(to_json, to_json, lambda name: f"{to_json(name)}:", ",", '"')
PLAIN = Style(format_value, untyped, lambda name: f"{format_name(name)}: ", ", ", "")
