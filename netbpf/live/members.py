"""What the dispatcher of a chain counted: packets by member and verdict."""

from dataclasses import dataclass, field
from typing import Self

from netbpf.errors import NotAttachedError
from netbpf.model import Attachment


class MemberCounts:
    """The open counters of a chain. Close it, or use it as a context manager."""

    def __init__(self, attachment: Attachment) -> None:
        """NetbpfError where the chain is gone."""
        from netbpf.bpf.chain.counters import (
            Counters,
        )  # a program alone has none, and need not pay for them

        self._attachment = attachment
        self._counters = Counters.by_id(attachment.counters, attachment.occupant.hook)

    def read(self) -> dict[str, dict[str, int]]:
        """Packets by member and by verdict; verdicts that did not occur are left out."""
        from netbpf.bpf.chain.counters import since

        slots = self._counters.read()
        return {
            one.name: since(slots[one.slot], dict(one.baseline)) for one in self._attachment.members
        }

    def close(self) -> None:
        """Let go of the counters."""
        self._counters.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


@dataclass(frozen=True, slots=True)
class ChainCounts:
    """What runs on a hook, and packets by member and verdict; ``verdicts`` is empty for a program alone."""

    attachment: Attachment
    verdicts: dict[str, dict[str, int]] = field(default_factory=dict)

    @property
    def packets(self) -> dict[str, int]:
        """How many packets came to each member."""
        return {name: sum(counts.values()) for name, counts in self.verdicts.items()}

    @classmethod
    def of(cls, attachment: Attachment) -> Self:
        """Read the counters of what runs on a hook. NotAttachedError where the chain is gone."""
        if not attachment.is_chain:
            return cls(attachment)
        with MemberCounts(attachment) as counts:
            return cls(attachment, counts.read())


def read_chains(attachments: list[Attachment]) -> list[ChainCounts]:
    """What netbpf runs on hooks, with its counters; a chain that vanished meanwhile is left out."""
    found = []
    for one in attachments:
        try:
            if one.managed:
                found.append(ChainCounts.of(one))
        except NotAttachedError:
            continue
    return found
