"""Values without BTF: hex, lossless, the same width every time.

1, 2, 4 and 8 bytes are shown as the number they are on this machine, ``0x0000002a``; other sizes
byte by byte in the order of memory, ``0a 00 00 01 ff``. Both read back to the same bytes.
"""

import re

from netbpf.bpf.btf.literal import ipv4, ipv6, mac, number, prefix, shown
from netbpf.bpf.btf.values import Buffer
from netbpf.errors import UsageError

_NUMBERS = (1, 2, 4, 8)
_PAIRS = re.compile(r"[0-9a-f]{2}(?:[ :][0-9a-f]{2})+", re.ASCII | re.IGNORECASE)


def decode_raw(data: Buffer) -> str:
    """Bytes as text, without knowing what they are."""
    if len(data) in _NUMBERS:
        return f"{int.from_bytes(data, 'little'):#0{2 * len(data) + 2}x}"
    return data.hex(" ") if data else ""


def decode_number(data: Buffer) -> int | str:
    """Bytes that are known to be an unsigned number of this machine: an index, an id; no bytes are no number."""
    return int.from_bytes(data, "little") if data else ""


def sum_raw(copies: list[bytes]) -> str | list[str]:
    """The per-CPU copies of one value as one.

    Numbers (see above) are added, and the sum may be wider than they are; other values stand once
    where all CPUs agree, and are listed where they differ.
    """
    if copies and len(copies[0]) in _NUMBERS:
        total = sum(int.from_bytes(one, "little") for one in copies)
        return f"{total:#0{2 * len(copies[0]) + 2}x}"
    found = [decode_raw(one) for one in copies]
    return found[0] if found and found.count(found[0]) == len(found) else found


def encode_raw(value: object, size: int, *, name: str = "value") -> bytes:
    """The ``size`` bytes that a text or a Python value means where there is no BTF.

    A number becomes an integer of this machine, of any size. Text may also be hex bytes in the
    order of memory (two or more, ``0a 00 00 01``), or an address or prefix of that size:
    IPv4 (4 bytes), MAC (6), IPv6 (16), ``10.0.0.0/8`` and ``2001:db8::/32`` (LPM keys of 8 and 20).
    Raises UsageError for everything else.
    """
    if isinstance(value, bytes | bytearray | memoryview):
        if len(value) == size:
            return bytes(value)
        raise UsageError(f"{name} takes {size} bytes, not {len(value)}")
    if isinstance(value, str):
        found = _from_text(value.strip(), size)
        if found is not None:
            return found
    whole = number(value) if isinstance(value, str) else value
    if isinstance(whole, int):
        low, high = -1 << (size * 8 - 1) if size else 0, (1 << size * 8) - 1
        if low <= whole <= high:
            return whole.to_bytes(size, "little", signed=whole < 0)
        raise UsageError(f"{name} has {size} bytes: {whole} is out of range {low}..{high}")
    raise UsageError(
        f"{name} has no BTF and {size} bytes: {shown(value)} is neither a number nor {size} bytes",
        hint="write a number, or bytes in hex such as 0a 00 00 01",
    )


def _from_text(text: str, size: int) -> bytes | None:
    found: bytes | None
    for found in (ipv4(text), mac(text), ipv6(text)):
        if found is not None and len(found) == size:
            return found
    if size in (8, 20) and "/" in text and (found := prefix(text, size - 4)) is not None:
        return found
    if _PAIRS.fullmatch(text):
        found = bytes.fromhex(text.replace(":", " "))
        return found if len(found) == size else None
    return None
