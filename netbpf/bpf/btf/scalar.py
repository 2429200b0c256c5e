"""One number, word, text or address to bits, checked against what it goes to."""

import re
import struct

from netbpf.bpf.btf.literal import PROTOCOLS, Quoted, ipv4, ipv6, mac, number, prefix, shown
from netbpf.bpf.btf.names import is_protocol
from netbpf.bpf.btf.path import Place
from netbpf.bpf.btf.raw import encode_raw
from netbpf.bpf.btf.shape import Form, is_byte
from netbpf.errors import UsageError
from netbpf.text import did_you_mean, escape

_WORDS = {"true": 1, "on": 1, "yes": 1, "false": 0, "off": 0, "no": 0}
_ESCAPE = re.compile(r"\\(x[0-9a-fA-F]{2}|.|$)", re.DOTALL)
_ESCAPES = {"\\": 0x5C, "n": 0x0A, "t": 0x09, "r": 0x0D, "0": 0, '"': 0x22, "'": 0x27}


def misfit(place: Place, why: str, hint: str | None = None) -> UsageError:
    """The error for a value that does not fit: what the place is, and why not."""
    what = place.shape.c_name
    if place.bits and place.shape.form is not Form.ENUM:
        what = f"{what[0] if place.shape.form is Form.INT else 'u'}{place.bits}"
    return UsageError(f"{escape(place.name) or 'the value'} is {what}: {why}", hint=hint)


def scalar_bits(place: Place, value: object) -> int:
    """The bits of a number, bool, enum, float or pointer; negative numbers stay negative."""
    bits = place.bits or place.shape.bits
    match place.shape.form:
        case Form.BOOL:
            found = _whole(place, value, "neither true nor false")
            return _in_range(place, found, 0, 1)
        case Form.ENUM:
            return _enumerator(place, value, bits)
        case Form.FLOAT:
            return _float(place, value)
        case Form.RAW:
            raw = encode_raw(value, place.shape.size, name=escape(place.name) or "the value")
            return int.from_bytes(raw, "little")
        case Form.POINTER:
            return _in_range(place, _whole(place, value, "no number"), 0, (1 << 64) - 1)
        case Form.BIG:
            return _big(place, value, bits)
        case _:
            found = _whole(place, value, "no number")
            if place.shape.signed:
                return _in_range(place, found, -1 << (bits - 1), (1 << (bits - 1)) - 1)
            return _in_range(place, found, 0, (1 << bits) - 1)


def _in_range(place: Place, value: int, low: int, high: int) -> int:
    if low <= value <= high:
        return value
    raise misfit(place, f"{value} is out of range {low}..{high}")


def _big(place: Place, value: object, bits: int) -> int:
    if bits == 32 and isinstance(value, str) and (address := ipv4(value.strip())) is not None:
        return int.from_bytes(address, "little")
    found = _in_range(place, _whole(place, value, "no number"), 0, (1 << bits) - 1)
    if place.bits:
        return found  # a bitfield has no byte order of its own
    return int.from_bytes(found.to_bytes(place.shape.size, "big"), "little")


def _whole(place: Place, value: object, complaint: str) -> int:
    """A whole number; ``complaint`` is what the value is if it is none."""
    if isinstance(value, int):
        return int(value)
    if not isinstance(value, str):
        raise misfit(place, f"{shown(value)} is {complaint}")
    text = value.strip()
    if (
        place.shape.form is Form.CHAR
        and len(value) == 1
        and (isinstance(value, Quoted) or not value.isdigit())
    ):
        return ord(value)
    found = number(text)
    if found is None:
        found = _WORDS.get(text.lower())
    if found is None and is_protocol(place.name.rpartition(".")[2]):
        found = PROTOCOLS.get(text.lower())
    if found is None:
        raise misfit(place, f"{shown(value)} is {complaint}", _number_hint(place, text))
    return found


def _number_hint(place: Place, text: str) -> str | None:
    if text.lstrip("+-").startswith("0") and text.lstrip("+-0").isdigit():
        plain = text.lstrip("+-0")
        return f"write {plain} (decimal) or 0o{plain} (octal)"
    address = ipv4(text)
    if address is not None and place.shape.size == 4:
        return (
            f"its type does not say in which byte order it keeps an address: {text} is"
            f" {int.from_bytes(address, 'little')} in network order, {int.from_bytes(address, 'big')} in host order"
        )
    if is_protocol(place.name.rpartition(".")[2]):
        return did_you_mean(text.lower(), PROTOCOLS, "protocols")
    return None


def _enumerator(place: Place, value: object, bits: int) -> int:
    known: dict[str, int] = {}
    for name, meaning in place.shape.enumerators:
        known.setdefault(name, meaning)
    low, high, mask = -1 << (bits - 1), (1 << bits) - 1, (1 << bits) - 1
    found = value if isinstance(value, int) else None
    if isinstance(value, str):
        found = _named(place, known, value.strip())
        if found is not None:
            return _in_range(place, found, low, high)
        found = number(value)
    if found is None:
        hint = did_you_mean(value, known, "its values") if isinstance(value, str) else None
        raise misfit(place, f"{shown(value)} is none of its values", hint)
    if place.shape.signed:
        high = -low - 1
    elif found < 0 and found & mask not in {one & mask for one in known.values()}:
        # Some compilers call an enum unsigned although it has negative values.
        low = 0
    return _in_range(place, int(found), low, high)


def _named(place: Place, known: dict[str, int], text: str) -> int | None:
    if text in known:
        return known[text]
    small = text.lower()
    alike = [name for name in known if name.lower() == small]
    alike = alike or [name for name in known if small and name.lower().endswith("_" + small)]
    if len({known[name] for name in alike}) > 1:
        raise misfit(place, f"{shown(text)} could be {' or '.join(map(escape, alike))}")
    return known[alike[0]] if alike else None


def _float(place: Place, value: object) -> int:
    code = {2: "<e", 4: "<f", 8: "<d"}[place.shape.size]
    found = value
    if isinstance(value, str):
        try:
            found = float(value)
        except ValueError:
            found = number(value)  # 0x10
    if not isinstance(found, int | float):
        raise misfit(place, f"{shown(value)} is no number")
    try:
        return int.from_bytes(struct.pack(code, found), "little")
    except (OverflowError, struct.error):
        raise misfit(place, f"{shown(value)} is out of range") from None


# --- bytes with a meaning ---

EXPECTED = {
    Form.MAC: ("no MAC address", "such as 02:00:00:00:00:01"),
    Form.IPV4: ("no IPv4 address", "such as 10.0.0.1"),
    Form.IPV6: ("no IPv6 address", "such as 2001:db8::1"),
    Form.TEXT: ("no text", None),
}


def expected(place: Place, value: object) -> UsageError:
    """The error for something that is not what an array, address or prefix can be made of."""
    of = place.shape
    if of.form is Form.PREFIX:
        example = {4: "10.0.0.0/8", 6: "02:00:00:00:00:00/24", 16: "2001:db8::/32"}[of.size - 4]
        return misfit(place, f"{shown(value)} is no prefix", f"such as {example}")
    what, hint = EXPECTED.get(
        of.form, ("no list", "write [VALUE, ...], or set one element: NAME[INDEX]=VALUE")
    )
    return misfit(place, f"{shown(value)} is {what}", hint)


def bytes_of_text(place: Place, text: str) -> bytes:
    """Text with its escapes resolved, filled with NULs up to the size of the place."""
    out, position = bytearray(), 0
    try:
        for match in _ESCAPE.finditer(text):
            code = match.group(1)
            out += text[position : match.start()].encode("utf-8", "surrogateescape")
            if len(code) == 3:
                out.append(int(code[1:], 16))
            elif code in _ESCAPES:
                out.append(_ESCAPES[code])
            else:
                raise misfit(
                    place, f"{shown(text)} has an unknown escape", "a backslash is written \\\\"
                )
            position = match.end()
        out += text[position:].encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        raise misfit(place, f"{shown(text)} is no text") from None
    if len(out) > place.size:
        raise misfit(place, f"{shown(text)} has {len(out)} bytes, {place.size} fit")
    return bytes(out.ljust(place.size, b"\0"))


def bytes_of_address(place: Place, text: str) -> bytes | None:
    """The bytes of an address, prefix or hex string for a place of that size; None if it is none."""
    of = place.shape
    if of.form is Form.PREFIX:
        return prefix(text, of.size - 4)
    stripped = text.strip()
    inside = of.plain or of
    of_bytes = bool(inside.element and is_byte(inside.element))
    found = None
    if (
        of_bytes
        or of.form is not Form.ARRAY
        or (inside.element and inside.element.form is Form.BIG)
    ):
        parse = {4: ipv4, 6: mac, 16: ipv6}.get(place.size)
        found = parse(stripped) if parse else None
    if found is None and of_bytes:
        digits = stripped[2:] if stripped[:2].lower() == "0x" else ""
        if digits and len(digits) == 2 * place.size and digits.isalnum():
            try:
                found = bytes.fromhex(digits)
            except ValueError:
                found = None
        elif isinstance(text, Quoted):
            found = bytes_of_text(place, text)
    return found
