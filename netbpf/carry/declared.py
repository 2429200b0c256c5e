"""The variables of an object, and what is in them."""

from collections.abc import Iterable
from dataclasses import dataclass

from netbpf.bpf.btf.decode import field_decoder
from netbpf.bpf.btf.shape import Field, shape
from netbpf.bpf.btf.values import format_value
from netbpf.bpf.map import Map
from netbpf.bpf.mapdefs import MapSpec
from netbpf.bpf.object import ObjectSpec
from netbpf.constants import MapFlag, MapType

_MOST_SHOWN = 120  # characters of a value


@dataclass(frozen=True, slots=True)
class Variable:
    """A variable of one object, in its section."""

    section: str
    name: str
    field: Field
    constant: bool


def variables(spec: ObjectSpec, names: Iterable[str]) -> list[Variable]:
    """The variables of some sections, in order; none of sections that BTF does not describe."""
    found = []
    for name in names:
        one = spec.maps[name]
        if spec.btf is None or not one.value_type_id:
            continue
        for key, each in shape(spec.btf, one.value_type_id).fields.items():
            # A name's second variable, of another file, is called name@offset.
            found.append(Variable(name, key.partition("@")[0], each, one.read_only))
    return found


def member_value(variable: Field, path: str, data: bytes) -> str:
    """The value of a member that is gone, ``: was 5``; nothing for members of array elements."""
    steps = path.split(".")[1:]
    if not steps or "[]" in path:
        return ""
    of, offset = variable.shape, variable.offset
    for name in steps[:-1]:
        offset += of.fields[name].offset
        of = of.fields[name].shape
    value = field_decoder(of.fields[steps[-1]])(data[offset:])
    return f": was {shown(format_value(value))}"


def shown(text: str) -> str:
    """A value's text, cut where it is long."""
    return text if len(text) <= _MOST_SHOWN else text[:_MOST_SHOWN] + "..."


def fits(live: Map, spec: MapSpec) -> bool:
    """Whether a live section has the size and the rights that the object wants."""
    ignored = MapFlag.MMAPABLE  # a comfort, which old kernels do not have
    return (
        live.info.type == MapType.ARRAY
        and live.info.value_size == spec.value_size
        and live.info.flags & ~ignored == spec.flags & ~ignored
    )


def symbols(spec: ObjectSpec, section: str) -> list[tuple[str, int, int]]:
    """Names, places and sizes of what a section holds, without BTF."""
    return sorted(
        (one.name, one.value, one.size)
        for one in spec.elf.symbols_in(spec.maps[section].section)
        if one.name and one.size
    )
