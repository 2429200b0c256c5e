"""What a register holds, in words: ``pkt(off=14,r=14)`` is "a pointer into the packet at byte 14"."""

import re
from collections.abc import Callable, Mapping

_VALUE = re.compile(r"^([^(\[]*?)(-?\d+)?(?:\[\d+\](-?\d+)?)?(?:\((.*)\))?$")
_KERNEL = re.compile(r"^(?:trusted_|rcu_|untrusted_|percpu_|user_)*ptr_(\w*)$")
_HUGE = (1 << 64) - 1
_SOCKETS = ("sock", "sock_common", "tcp_sock", "xdp_sock")


def parts(value: str) -> tuple[str, dict[str, str]]:
    """The kind of a value ("pkt", "scalar" for old kernels' "inv" too) and its attributes; {} where it has none."""
    found = _VALUE.match(value)
    if not found:
        return value, {}
    kind, number, other, inside = found.groups()
    fields = dict(re.findall(r"(\w+)=((?:\([^()]*\))|[^,()]+)", inside or ""))
    # smin=smin32=0,smax=umax=12: several names, one number.
    for names, number_text in re.findall(
        r"((?:\w+=)+)(-?(?:0x[0-9a-f]+|\d+))(?![\w.])", inside or ""
    ):
        fields |= dict.fromkeys(filter(None, names.split("=")), number_text)
    for old, new in (
        ("umax_value", "umax"),
        ("umin_value", "umin"),
        ("smin_value", "smin"),
        ("smax_value", "smax"),
    ):
        if old in fields:
            fields[new] = fields[old]
    if re.fullmatch(r"-?\d+|-?0x[0-9a-f]+", value):
        return "scalar", {"number": value}
    if kind == "inv":
        kind = "scalar"
        if number and not inside:
            fields["number"] = number
    elif kind == "fp":
        fields["off"] = number or other or fields.get("off", "0")
    return kind, fields


def integer(text: str | None, otherwise: int = 0) -> int:
    """A number as the log writes it, decimal or hexadecimal."""
    try:
        return int(text or "", 0)
    except ValueError:
        return otherwise


def _signed(number: int) -> int:
    return number - (1 << 64) if number >= 1 << 63 else number


def _scalar(fields: Mapping[str, str]) -> str:
    if "number" in fields:
        number = integer(fields["number"])
        return f"the number {number - (1 << 32) if 0xFFFF0000 <= number < 1 << 32 else _signed(number)}"
    low, high = _range(fields)
    if (low, high) == (0, 0xFFFFFFFF):
        return "a number of 32 bits, not bounded further"
    if low is not None and high is not None:
        return f"a number from {low} to {high}"
    if high is not None:
        return f"a number of at most {high}"
    if low is not None:
        return f"a number of at least {low}"
    return "a number, of which nothing is known"


def _range(fields: Mapping[str, str]) -> tuple[int | None, int | None]:
    """The signed bounds of a number, else the unsigned ones where they are the same."""
    low = _signed(integer(fields["smin"])) if "smin" in fields else None
    high = _signed(integer(fields["smax"])) if "smax" in fields else None
    umax = integer(fields.get("umax"), _HUGE)
    if umax < 1 << 63:
        low = integer(fields.get("umin")) if low is None else low
        high = umax if high is None else high
    return low, high


def _offset(fields: Mapping[str, str], word: str = "at byte") -> str:
    off, more = integer(fields.get("off")), integer(fields.get("umax"))
    text = f" {word} {off}" if off or more or word != "at byte" else ""
    return f"{text} plus up to {more}" if more else text


def _packet(fields: Mapping[str, str]) -> str:
    return f"a pointer into the packet{_offset(fields)}"


def _map_value(fields: Mapping[str, str]) -> str:
    name = fields.get("map", "")
    size = integer(fields.get("vs"))
    return f"a value of {'map ' + name if name else 'a map'} ({size} bytes){_offset(fields)}"


_WORDS: dict[str, Callable[[Mapping[str, str]], str]] = {
    "ctx": lambda fields: f"the context{_offset(fields)}",
    "pkt": _packet,
    "pkt_meta": lambda fields: f"data_meta{_offset(fields)}",
    "pkt_end": lambda _: "data_end",
    "scalar": _scalar,
    "map_value": _map_value,
    "map_ptr": lambda fields: f"the map {fields.get('map', '')}".rstrip(),
    "map_key": lambda _: "a key of a map",
    "fp": lambda fields: f"the stack{_offset(fields, 'at')}",
    "mem": lambda fields: f"memory of {integer(fields.get('sz'))} bytes{_offset(fields)}",
    "ringbuf_mem": lambda fields: (
        f"{integer(fields.get('sz'))} bytes of a ring buffer{_offset(fields)}"
    ),
    "alloc_mem": lambda fields: (
        f"{integer(fields.get('sz', fields.get('mem_size')))} bytes of a ring buffer"
    ),
    "func": lambda _: "a function",
} | dict.fromkeys(_SOCKETS, lambda _: "a socket")


def words(value: str) -> str:
    """A register's value for people."""
    kind, fields = parts(value)
    plain = kind.removesuffix("_or_null")
    if found := _KERNEL.match(plain):
        text = (
            f"a pointer to the kernel's struct {found[1]}"
            if found[1]
            else "a pointer into the kernel"
        )
    else:
        text = _WORDS[plain](fields) if plain in _WORDS else plain
    return f"{text}, or NULL" if kind != plain else text


_KINDS = {
    "fp": "memory on the stack", "pkt": "checked packet data", "pkt_meta": "checked metadata", "map_key": "a map key",
    "map_value": "a map value", "map_ptr": "a map", "ctx": "the context", "mem": "memory of known size",
    "ringbuf_mem": "a ring buffer record", "buf": "a buffer", "scalar": "a number", "inv": "a number",
    "func": "a function of the program", "dynptr_ptr": "a dynptr", "const_ptr_to_dynptr": "a dynptr",
} | dict.fromkeys(_SOCKETS, "a socket")  # fmt: skip


def kind(name: str) -> str:
    """A kind of value as the verifier lists those it expects, for people."""
    plain = name.strip().removesuffix("_or_null")
    if plain in _KINDS:
        return _KINDS[plain]
    return "a kernel object" if _KERNEL.match(plain) else plain
