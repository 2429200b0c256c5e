"""The ways a program can sit on an interface, as parameters of a test. Imports nothing of netbpf."""

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class AttachKind:
    """A hook and how the program gets onto it. ``hook`` and ``mode`` are netbpf's words (Hook, Mode).

    The mode "testrun" is on no interface: the kernel runs the program on packets that are given to it.
    """

    id: str
    hook: str
    mode: str

    @property
    def family(self) -> str:
        """``"xdp"`` or ``"tc"``: which type of program it takes."""
        return self.hook.partition("/")[0]

    @property
    def on_wire(self) -> bool:
        """Whether the program sits on a hook of an interface, not in TEST_RUN."""
        return self.mode != "testrun"

    @property
    def egress(self) -> bool:
        """Whether the hook sees what leaves the interface, not what comes in."""
        return self.hook == "tc/egress"

    def __str__(self) -> str:
        return self.id


XDP_NATIVE: Final = AttachKind("xdp-native", "xdp", "native")
XDP_SKB: Final = AttachKind("xdp-skb", "xdp", "skb")
TC_CLSACT: Final = AttachKind("tc-clsact", "tc/ingress", "clsact")
TC_TCX: Final = AttachKind("tc-tcx", "tc/ingress", "tcx")
TC_CLSACT_EGRESS: Final = AttachKind("tc-clsact-egress", "tc/egress", "clsact")
TC_TCX_EGRESS: Final = AttachKind("tc-tcx-egress", "tc/egress", "tcx")
XDP_TESTRUN: Final = AttachKind("xdp-testrun", "xdp", "testrun")
TC_TESTRUN: Final = AttachKind("tc-testrun", "tc/ingress", "testrun")

_ON_WIRES: Final = (XDP_NATIVE, XDP_SKB, TC_CLSACT, TC_TCX, TC_CLSACT_EGRESS, TC_TCX_EGRESS)
KINDS: Final = {kind.id: kind for kind in (*_ON_WIRES, XDP_TESTRUN, TC_TESTRUN)}
GROUPS: Final = {
    "xdp": (XDP_NATIVE, XDP_SKB),
    "tc": (TC_CLSACT, TC_TCX),
    "tc-egress": (TC_CLSACT_EGRESS, TC_TCX_EGRESS),
    "ingress": (XDP_NATIVE, XDP_SKB, TC_CLSACT, TC_TCX),
    "all": _ON_WIRES,
    "testrun": (XDP_TESTRUN, TC_TESTRUN),
    "everywhere": tuple(KINDS.values()),
}


def chosen(*words: str) -> list[AttachKind]:
    """The kinds that ids and group names stand for, each once; ValueError for another word."""
    found: dict[str, AttachKind] = {}
    for word in words:
        group = GROUPS.get(word) or ((KINDS[word],) if word in KINDS else ())
        if not group:
            raise ValueError(f"no attach kind {word!r}; there are {', '.join([*KINDS, *GROUPS])}")
        found.update((kind.id, kind) for kind in group)
    return list(found.values())
