"""Which type a record of a buffer has: found, and told how; never guessed in silence.

A ring buffer does not say what is in it: the kernel takes no types for it. In this order, for each length of record:

1. ``asked``: what the user names.
2. ``declared``: the map's definition in the program's BTF says ``__type(value, struct event)``, which the C compiler
   keeps in the section ``.maps`` though the kernel ignores it.
3. ``size``: exactly one struct of the program's BTF, other than the kernel's own for packets, has this length.

Otherwise a record is shown in hex, and ``why`` says what stood in the way.
"""

from collections.abc import Iterable, Sequence
from typing import Final, Literal, NamedTuple

from netbpf.bpf.btf.decode import shape_decoder
from netbpf.bpf.btf.shape import Shape, shape
from netbpf.bpf.btf.types import Btf, Kind
from netbpf.bpf.btf.values import Buffer, Value
from netbpf.errors import ObjectError
from netbpf.text import did_you_mean, escape

How = Literal["asked", "declared", "size"]

# Structs of the kernel's headers that networking programs use: contexts, packets, addresses.
_COMMON: Final = frozenset(
    "xdp_md __sk_buff ethhdr iphdr ipv6hdr udphdr tcphdr icmphdr icmp6hdr vlan_hdr vlan_ethhdr arphdr sctphdr"
    " in_addr in6_addr ipv6_opt_hdr frag_hdr bpf_sock bpf_sock_tuple bpf_tunnel_key bpf_fib_lookup bpf_flow_keys"
    " bpf_spin_lock bpf_timer bpf_redir_neigh pt_regs".split()
)
_NAMED: Final = (Kind.STRUCT, Kind.UNION, Kind.TYPEDEF, Kind.ENUM, Kind.ENUM64, Kind.INT)


class RecordType(NamedTuple):
    """A type and how it was found. ``name`` is as C writes it."""

    name: str
    how: How
    shape: Shape

    def value(self, data: Buffer) -> Value:
        """The record's value; what lies behind the type is left out."""
        return shape_decoder(self.shape)(data)

    def rest(self, data: bytes, padded: bool) -> bytes:
        """What a program wrote behind the type, such as the packet; a perf buffer's padding is none."""
        behind = data[self.shape.size :] if not self.shape.flexible else b""
        return b"" if padded and len(behind) < 8 and not behind.strip(b"\0") else behind


class RecordTypes:
    """The types of one buffer's records, by their length; each is looked for once."""

    def __init__(
        self, name: str, types: Sequence[Btf], *, asked: str | None = None, padded: bool = False
    ) -> None:
        """``types`` is the BTF of the programs that use the buffer; ``padded`` says that it is a perf buffer.

        Raises ObjectError where no type is called as ``asked``, with near names.
        """
        self._name, self._types, self._padded = name, types, padded
        self._found: dict[int, RecordType | None] = {}
        self._why: dict[int, str] = {}
        self._fixed = _asked(types, asked) if asked else _declared(types, name)

    def of(self, length: int) -> RecordType | None:
        """The type of records of a length; None where nothing tells."""
        if length not in self._found:
            self._found[length] = self._look(length)
        return self._found[length]

    def why(self, length: int) -> str:
        """Why records of a length have no type."""
        self.of(length)
        return self._why.get(length, "")

    def _look(self, length: int) -> RecordType | None:
        fixed = self._fixed
        if fixed is not None:
            if fixed.shape.size <= length:
                return fixed
            self._why[length] = (
                f"{fixed.name} has {fixed.shape.size} bytes, and the record {length}"
            )
            return None
        if not self._types:
            self._why[length] = "the program has no types (BTF): compile it with -g"
            return None
        sizes = {length - less for less in range(8)} if self._padded else {length}
        found = [one for one in _structs(self._types) if one.size in sizes]
        if len(found) == 1:
            return RecordType(found[0].c_name, "size", found[0])
        about = "about " if self._padded else ""
        names = ", ".join(one.c_name for one in found[:6]) + (", ..." if len(found) > 6 else "")
        self._why[length] = (
            f"{len(found)} structs have {about}{length} bytes: {names}"
            if found
            else f"no struct has {about}{length} bytes"
        )
        return None


def hex_value(data: bytes) -> str:
    """A record without a type: byte by byte, whatever its length, as records have no width of their own."""
    return data.hex(" ")


def _asked(types: Sequence[Btf], name: str) -> RecordType:
    """The type of a name: ``event``, ``struct event``, ``event_t``, ``unsigned int``."""
    word, _, rest = name.strip().partition(" ")
    kinds = {"struct": (Kind.STRUCT,), "union": (Kind.UNION,), "enum": (Kind.ENUM, Kind.ENUM64)}
    wanted, bare = (kinds[word], rest.strip()) if word in kinds else (_NAMED, name.strip())
    for btf in types:
        for kind in btf.find(bare, *wanted):
            of = shape(btf, kind.id)
            return RecordType(
                bare if kind.kind in (Kind.TYPEDEF, Kind.INT) else of.c_name, "asked", of
            )
    if not types:
        raise ObjectError(
            f"no type {escape(name)!r}: the program has no types (BTF)", hint="compile it with -g"
        )
    known = [one.c_name.partition(" ")[2] for one in _structs(types)]
    raise ObjectError(
        f"the program's BTF has no type {escape(name)!r}", hint=did_you_mean(bare, known, "structs")
    )


def _declared(types: Iterable[Btf], name: str) -> RecordType | None:
    """The type that the definition of a map in ``.maps`` says its values have; the kernel cuts names to 15 bytes."""
    for btf in types:
        for section in btf.find(".maps", Kind.DATASEC):
            for entry in btf.section_vars(section):
                variable = btf.type(entry.type_id)
                if variable.kind is Kind.VAR and variable.name[:15] == name[:15]:
                    found = _value_type(btf, variable.size_or_type)
                    if found is not None:
                        return RecordType(found.c_name, "declared", found)
    return None


def _value_type(btf: Btf, type_id: int) -> Shape | None:
    definition = btf.resolve(type_id)
    if definition.kind is not Kind.STRUCT:
        return None
    for member in btf.members(definition):
        if member.name == "value":
            pointer = btf.resolve(member.type_id)
            return shape(btf, pointer.size_or_type) if pointer.kind is Kind.PTR else None
    return None


def _structs(types: Iterable[Btf]) -> list[Shape]:
    """The named structs and unions of some BTF that may be records, each name once."""
    found: dict[str, Shape] = {}
    for btf in types:
        for kind in btf.of_kind(Kind.STRUCT, Kind.UNION):
            if kind.name and kind.name not in _COMMON and kind.size_or_type:
                try:
                    found.setdefault(kind.name, shape(btf, kind.id))
                except ObjectError:
                    continue  # a type without a value, such as one with a forward declaration in it
    return list(found.values())
