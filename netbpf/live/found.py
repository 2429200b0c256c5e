"""What a name leads to, and what its map says of types and keys."""

from typing import NamedTuple

from netbpf.bpf.btf.encode import encode_text
from netbpf.bpf.btf.path import Index, Path
from netbpf.bpf.btf.types import Btf
from netbpf.constants import MapType
from netbpf.errors import NotSupportedError, ObjectError, UsageError
from netbpf.live.reader import HookReader, OpenMap, Part
from netbpf.text import escape


class Found(NamedTuple):
    """What a name leads to: a map of a hook's program, or of one part of it, and the path within it.

    For a variable the path begins with its name; for an entry with the key; an empty one is the whole map.
    """

    reader: HookReader
    part: Part
    map: OpenMap
    path: Path
    variable: bool


def types_of(one: OpenMap) -> tuple[Btf, int]:
    """The types of a map, and the id of its values' one. NotSupportedError where it has none."""
    if one.btf is None or not one.info.btf_value_type_id:
        raise NotSupportedError(
            f"{escape(one.name)} has no types (BTF), so its values have no names",
            hint="compile the program with -g",
        )
    return one.btf, one.info.btf_value_type_id


def key_of(found: Found) -> bytes:
    """The bytes of the key that a path begins with. UsageError or ObjectError where they are none."""
    one = found.map
    step = found.path.steps[0]
    if not isinstance(step, Index):
        raise UsageError(
            f"{escape(one.name)} is a map", hint=f"name an entry: {escape(one.name)}[KEY]"
        )
    if one.btf is None or not one.info.btf_key_type_id:
        return raw(step.text, one.info.key_size, f"the key of {escape(one.name)}")
    lpm = one.info.type == MapType.LPM_TRIE
    try:
        return encode_text(
            one.btf, one.info.btf_key_type_id, step.text, name=one.info.name, lpm=lpm
        )
    except (ObjectError, UsageError) as error:
        error.message = f"the key of {error.message}"
        raise


def raw(text: str, size: int, what: str) -> bytes:
    """The bytes of a text where no type is known."""
    from netbpf.bpf.btf.raw import encode_raw

    return encode_raw(text, size, name=what)
