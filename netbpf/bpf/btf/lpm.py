"""Keys of LPM tries as people say them: the prefix length follows from the address.

The kernel compares as many bits behind the length as it says (kernel/bpf/lpm_trie.c), from the first byte on. A length
that was left at 0 would match every packet, so it is never just left out.
"""

from collections.abc import Mapping

from netbpf.bpf.btf.literal import ipv4, ipv6, mac, number, parse_literal, shown
from netbpf.bpf.btf.shape import Field, Form, Shape
from netbpf.errors import UsageError
from netbpf.text import escape

_LENGTH = 4  # bytes of the prefix length, which comes first
_ADDRESSES = {4: ipv4, 6: mac, 16: ipv6}


def with_length(of: Shape, value: object, name: str) -> object:
    """A key given by its members, with its prefix length; everything else as it is.

    ``{src: 10.0.0.0/8}`` means the 8 bits and all members before them; without a slash the bits of all members that
    are mentioned count. Raises UsageError for a length that is out of range, or contradicts the address.
    """
    inside = of.plain or of
    first = next(iter(inside.fields.values()), None)
    if first is None or (first.bit_offset, first.shape.size) != (0, _LENGTH):
        return value
    if isinstance(value, str) and value.lstrip().startswith("{"):
        value = parse_literal(value)
    if not isinstance(value, Mapping) or first.shape.form is not Form.INT:
        return value
    parts = {str(key): part for key, part in value.items()}
    end, by = 0, ""
    for key, part in parts.items():
        field = inside.fields.get(key)
        if field is None or field is first:
            continue
        bits, parts[key] = _bits(field, part, f"{name}.{key}")
        if bits is not None and by:
            raise UsageError(f"{escape(by)} and {escape(key)} both say how long the prefix is")
        if bits is not None:
            by, end = key, (field.offset - _LENGTH) * 8 + bits
    mentioned = [_end_of(one) for key, one in inside.fields.items() if key in parts]
    if by and max(mentioned) > _end_of(inside.fields[by]):
        raise UsageError(f"what is behind the prefix of {escape(by)} is not compared: leave it out")
    meant = end if by else None
    called = f"{name}.{first.name}"
    parts[first.name] = _length(parts.get(first.name), meant, max(mentioned, default=0), of, called)
    return parts


def _end_of(field: Field) -> int:
    """The bits that the trie compares up to the end of a member; 0 for the length itself."""
    return (field.offset + field.size - _LENGTH) * 8


def _bits(field: Field, part: object, name: str) -> tuple[int | None, object]:
    """The bits behind a slash, and the address before it; None for values without one."""
    if not isinstance(part, str) or "/" not in part or field.size not in _ADDRESSES:
        return None, part
    address, _, length = part.strip().partition("/")
    bits = number(length)
    if bits is None or _ADDRESSES[field.size](address) is None:
        return None, part
    if not 0 <= bits <= field.size * 8:
        raise UsageError(
            f"{escape(name)}: {shown(part)}: prefix length {bits} is out of range 0..{field.size * 8}"
        )
    return bits, address


def _length(given: object, bits: int | None, mentioned: int, of: Shape, name: str) -> object:
    found = number(given) if isinstance(given, str) else given
    if found is None and given is None:
        return mentioned if bits is None else bits
    most = (of.size - _LENGTH) * 8
    if isinstance(found, int) and not 0 <= found <= most:
        raise UsageError(f"{escape(name)}: prefix length {found} is out of range 0..{most}")
    if bits is not None and found != bits:
        raise UsageError(f"{escape(name)} is {shown(given)}, and the address says {bits}")
    return given
