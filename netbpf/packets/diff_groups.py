"""Sorting packets that differ by how they do, and finding what those of one sort have in common."""

from dataclasses import dataclass, field

from netbpf.packets.diff_model import DiffGroup, FieldValue
from netbpf.packets.replay_headers import Fields, fields_of, protocol_of
from netbpf.packets.replay_model import Sample

MOST_GROUPS = 200  # a hostile capture has as many sorts as it likes; the rest is one group
_OTHER = "several"
# What is said of packets as they came in; the rest differs from packet to packet, or says nothing.
_DESCRIBING = (
    "vlan.id", "tcp.dstport", "udp.dstport", "icmp.type", "icmp.code", "arp.opcode", "ip.fragment", "ip.flags",
    "ip.src", "ip.dst", "ipv6.src", "ipv6.dst", "tcp.srcport", "udp.srcport", "tcp.flags", "ip.tos", "ip.ttl",
    "ipv6.hlim", "length", "eth.src", "eth.dst",
)  # fmt: skip
# Without these being anything else than they always are, they are not worth a word.
_USUAL: Fields = {"ip.flags": 0, "ip.fragment": 0, "ip.tos": 0, "icmp.code": 0}

Key = tuple[str, str, str, tuple[str, ...]]


@dataclass(slots=True)
class _Group:
    packets: int = 0
    common: dict[str, FieldValue] = field(default_factory=dict)
    ranges: dict[str, tuple[int, int]] = field(default_factory=dict)
    samples: list[Sample] = field(default_factory=list)

    def add(self, found: Fields) -> None:
        """Narrow down what all have in common."""
        if not self.packets:
            self.common = {
                name: value
                for name in _DESCRIBING
                if isinstance(value := found.get(name), int | str) and value != _USUAL.get(name)
            }
        else:
            for name, value in list(self.common.items()):
                if found.get(name) != value:
                    del self.common[name]
                    if isinstance(value, int) and isinstance(found.get(name), int):
                        self.ranges[name] = (value, value)
        self.packets += 1
        for name, (least, most) in list(self.ranges.items()):
            number = found.get(name)
            if isinstance(number, int):
                self.ranges[name] = (min(least, number), max(most, number))
            else:
                del self.ranges[name]


class Groups:
    """The groups of one comparison."""

    def __init__(self, ignore: frozenset[str], samples: int) -> None:
        self._ignore, self._samples = ignore, samples
        self._groups: dict[Key, _Group] = {}
        self.different = 0

    def changed(self, old: bytes, new: bytes) -> tuple[str, ...]:
        """The fields in which two packets differ, those left out that are ignored."""
        if old == new:
            return ()
        one, other = fields_of(old), fields_of(new)
        names = [name for name in dict.fromkeys((*one, *other)) if one.get(name) != other.get(name)]
        return tuple(sorted(name for name in names if name not in self._ignore))

    def add(self, old: str, new: str, changed: tuple[str, ...], sample: Sample) -> None:
        """Count a packet that differs."""
        found = fields_of(sample.data)
        key: Key = (old, new, protocol_of(found), changed)
        if key not in self._groups and len(self._groups) >= MOST_GROUPS:
            key = (_OTHER, _OTHER, _OTHER, ())
        group = self._groups.setdefault(key, _Group())
        group.add(found)
        self.different += 1
        if len(group.samples) < self._samples:
            group.samples.append(sample)

    def result(self) -> tuple[DiffGroup, ...]:
        """All of them, the largest first."""
        found = sorted(self._groups.items(), key=lambda one: (-one[1].packets, one[0]))
        return tuple(
            DiffGroup(
                *key, group.packets, dict(group.common), dict(group.ranges), tuple(group.samples)
            )
            for key, group in found
        )
