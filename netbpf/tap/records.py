"""From what a tap writes into its ring buffer to packets."""

import struct
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Final

from netbpf.bpf.tap.code import HEAD
from netbpf.tap.model import CapturedPacket

_TAG: Final = struct.Struct("!H")
_ADDRESSES: Final = 12  # bytes before the tag
_TAG_SIZE: Final = 4


def clock_offset() -> int:
    """Nanoseconds to add to CLOCK_MONOTONIC for Unix time, as the clocks are now."""
    before = time.monotonic_ns()
    now = time.time_ns()
    return now - (before + time.monotonic_ns()) // 2


class Decoder:
    """Makes packets of records. ``names`` are the verdicts' by number; ``member`` finds the name of a number."""

    def __init__(self, names: Mapping[int, str], member: Callable[[int], str]) -> None:
        self._names, self._member = names, member
        self._members: dict[int, str] = {0: ""}

    def packets(self, records: Iterable[bytes]) -> list[CapturedPacket]:
        """The packets of some records that were written just now."""
        offset, names, members = clock_offset(), self._names, self._members
        head, unpack, made = HEAD.size, HEAD.unpack_from, list[CapturedPacket]()
        for record in records:
            stamp, length, kept, verdict, who, ifindex, queue, tagged, tag, protocol, _, _ = unpack(
                record
            )
            data = record[head : head + kept]
            if tagged:
                length += _TAG_SIZE
                if kept >= _ADDRESSES:
                    inserted = struct.pack("=H", protocol) + _TAG.pack(tag)
                    data = data[:_ADDRESSES] + inserted + data[_ADDRESSES:]
            name = names.get(verdict)
            if name is None:
                name = f"other({verdict})"
            member = members.get(who)
            if member is None:
                member = members[who] = self._member(who)
            made.append(
                CapturedPacket(stamp + offset, length, data, verdict, name, member, ifindex, queue)
            )
        return made
