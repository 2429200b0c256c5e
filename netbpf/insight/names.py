"""The kernel's numbers as bpftool writes them."""

from functools import cache

from netbpf.constants import MapFlag, MapType, ProgType


@cache
def type_name(kind: int) -> str:
    """A program type as bpftool writes it, "unspec" where nothing says what a program is."""
    try:
        return ProgType(kind).name.lower()
    except ValueError:
        return str(kind)


@cache
def map_type_name(kind: int) -> str:
    """A map type as bpftool writes it; its number where netbpf does not know it."""
    try:
        return MapType(kind).name.lower()
    except ValueError:
        return str(kind)


def map_flags(flags: int) -> tuple[str, ...]:
    """The names of BPF_MAP_CREATE's flags, in small letters; what has no name as a number."""
    known = [flag for flag in MapFlag if flags & flag]
    rest = flags & ~sum(known)
    return (*(str(flag.name).lower() for flag in known), *((hex(rest),) if rest else ()))
