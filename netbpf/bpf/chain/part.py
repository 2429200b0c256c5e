"""A member as the linker takes it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

from netbpf.bpf.linker import Image
from netbpf.bpf.object import ObjectSpec, ProgramSpec
from netbpf.constants import ProgFlag
from netbpf.errors import NetbpfError
from netbpf.text import escape

Error = TypeVar("Error", bound=NetbpfError)


@dataclass(frozen=True, slots=True)
class Part:
    """A program that is to be a member, and how it takes part.

    ``name`` is the member's; ``image`` the code of ``program`` of ``spec`` with descriptors of live maps in place,
    as ``netbpf.bpf.loader`` gives it: whoever has it keeps those maps open until the chain is built. ``proceed`` are
    the verdicts that hand the packet on, as numbers; the first is the one that costs least. ``slot`` is where its
    verdicts are counted.
    """

    name: str
    spec: ObjectSpec
    program: ProgramSpec
    image: Image
    proceed: tuple[int, ...]
    slot: int

    @property
    def takes_frags(self) -> bool:
        """Whether it takes XDP frames in several buffers (``SEC("xdp.frags")``, Linux 5.18)."""
        return bool(self.program.declared.flags & ProgFlag.XDP_HAS_FRAGS)

    @property
    def shown(self) -> str:
        """What messages call it, fit for a terminal."""
        return f"member {escape(self.name)} ({escape(self.program.name)} of {self.spec.elf.origin})"

    def blamed(self, error: Error) -> Error:
        """The error, as one about this member."""
        error.member = self.name
        return error


def frags(parts: Sequence[Part]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The names of the members that take XDP frames in several buffers, and of those that do not.

    A chain takes such frames only where all of its members do: the others would read behind the first buffer's end.
    """
    with_frags = tuple(one.name for one in parts if one.takes_frags)
    return with_frags, tuple(one.name for one in parts if not one.takes_frags)
