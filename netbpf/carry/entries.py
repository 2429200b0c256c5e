"""Moving a map entry by entry."""

import errno
import os
from collections.abc import Iterator, Sequence
from itertools import islice

from netbpf._sys import bpf as sys_bpf
from netbpf.bpf.btf.types import Btf
from netbpf.bpf.map import Map
from netbpf.carry.adder import Adder, Edit, on_cpu
from netbpf.carry.batches import Block, batches, write
from netbpf.carry.changes import Difference, differences
from netbpf.carry.merge import Gain, Gains, Times, add_gains, told
from netbpf.carry.model import Merged
from netbpf.carry.reading import BPF_F_LOCK, lock_offset, read
from netbpf.carry.steps import EntriesStep
from netbpf.carry.widen import Widener
from netbpf.constants import MapFlag, MapType
from netbpf.errors import KernelError, ObjectError
from netbpf.text import escape

_NOEXIST = 1  # BPF_NOEXIST, include/uapi/linux/bpf.h
_INDEXED = frozenset({MapType.ARRAY, MapType.PERCPU_ARRAY})
_LRU = frozenset({MapType.LRU_HASH, MapType.LRU_PERCPU_HASH})
_ENOTSUPP = 524  # the kernel's own (include/linux/errno.h)
_GROUP = 1024  # entries merged at a time
_MOST_PROGRAMS = 64  # kept for entries in which the same parts changed


def _share(total: int, number: int, cpus: Sequence[int]) -> int:
    """How many of ``total`` entries the CPU of this number has when all have the same, or one more."""
    return (total + len(cpus) - 1 - number) // len(cpus)


class EntriesMove:
    """One map, filled from the old one of its name.

    What was copied is kept, keys and values as bytes, until it is compared with what the old program left.
    """

    def __init__(self, step: EntriesStep, new: Map, btf: Btf | None) -> None:
        self.step, self.old, self.new = step, step.live, new
        self._lock = lock_offset(btf, step.spec)
        self._flags = 0 if self._lock is None else BPF_F_LOCK
        self._widener = Widener(step.live, new, step.kept)
        self._before: list[Block] = []
        self._written = 0
        self._adders: dict[tuple[Edit, ...], Adder] = {}

    # --- the copy ---

    def copy(self) -> None:
        """Fill the new map. Raises ObjectError where it is too small by now."""
        for block in self._blocks():
            try:
                self._write(block)
            except KernelError as error:
                if error.errno not in (errno.E2BIG, errno.ENOSPC):
                    raise
                raise ObjectError(
                    f"map {escape(self.step.name)} is full: more entries have come meanwhile than "
                    f"its {self.new.info.max_entries}"
                ) from None
            self._before.append(block)

    def _blocks(self) -> Iterator[Block]:
        """The old map's entries, of an array those that the new one has."""
        room = self.new.info.max_entries
        for block in batches(self.old, self._flags):
            if self.old.info.type in _INDEXED:
                if room <= 0:
                    return
                if block.length > room:
                    yield self._part(block, 0, room)
                    return
                room -= block.length
            yield block

    def _part(self, block: Block, first: int, end: int) -> Block:
        """Some entries of the old map's block."""
        key, value = self.old.info.key_size, self.old.entry_size
        return Block(
            end - first,
            block.keys[key * first : key * end],
            block.values[value * first : value * end],
        )

    def _write(self, block: Block) -> None:
        """LRU maps keep free entries by CPU: filling from one leaves none behind. With lists by CPU
        (BPF_F_NO_COMMON_LRU) each CPU has its share of the entries and evicts beyond it, so all are filled alike.
        """
        if self.new.info.type not in _LRU:
            write(self.new, self._widener.block(block))
            return
        cpus = sorted(os.sched_getaffinity(0))
        if not self.new.info.flags & MapFlag.NO_COMMON_LRU:
            del cpus[1:]
        before, after = self._written, self._written + block.length
        end = 0
        for number, cpu in enumerate(cpus):
            first, end = end, end + _share(after, number, cpus) - _share(before, number, cpus)
            if first < end:
                with on_cpu(cpu):
                    write(self.new, self._widener.block(self._part(block, first, end)))
        self._written = after

    # --- what has been gained since ---

    def merge(self, times: Times) -> Merged:
        """What the old map's entries have gained, and which have come and gone."""
        merged = _Result(self.step.name)
        changed = differences(iter(self._before), self._blocks(), self.old.info.key_size)
        try:
            while group := list(islice(changed, _GROUP)):
                self._merge(group, times, merged)
        finally:
            for one in self._adders.values():
                one.close()
            self._adders.clear()
        self._before.clear()
        return merged.told()

    def _merge(self, group: Sequence[Difference], times: Times, merged: "_Result") -> None:
        both: list[Difference] = []
        for one in group:
            if one.after is None:
                self._remove(one, merged)
            elif one.before is not None or not self._insert(one, merged):
                both.append(one)
        if not self.new.per_cpu:
            for one in both:
                self._add(one, times, merged)
            return
        for cpu in range(self.new.entry_size // self.new.stride):
            with on_cpu(cpu) as there:
                for one in both:
                    self._add(one, times, merged, cpu, far=not there)

    def _insert(self, one: Difference, merged: "_Result") -> bool:
        """Make an entry that the old program made; False where the new one has made it too."""
        assert one.after is not None
        value = self._widener.values(one.after, 1)
        try:
            sys_bpf.map_update(self.new.fd.fileno(), one.key, value, _NOEXIST)
        except KernelError as error:
            if error.errno == errno.EEXIST:
                return False
            if error.errno not in (errno.E2BIG, errno.ENOSPC):
                raise
            merged.lost += 1
            return True
        merged.inserted += 1
        return True

    def _remove(self, one: Difference, merged: "_Result") -> None:
        """Delete an entry that the old program deleted, if the new one has not written to it."""
        # What is missing in an LRU map, or an array, was not deleted by a program.
        if self.new.info.type in _LRU | _INDEXED:
            return
        assert one.before is not None
        copied = self._widener.values(one.before, 1)
        if read(self.new, one.key, self._flags) != copied:
            return
        taken = self._take(one.key)
        if taken is None or taken == copied:
            merged.removed += 1
            return
        try:  # the new program wrote to it in between: back with it
            sys_bpf.map_update(self.new.fd.fileno(), one.key, taken, _NOEXIST)
        except KernelError as error:
            if error.errno not in (errno.EEXIST, errno.E2BIG):
                raise
            merged.lost += 1

    def _take(self, key: bytes) -> bytes | None:
        """Delete an entry; what was in it then, None where it was gone or the kernel cannot say."""
        fd = self.new.fd.fileno()
        try:
            return sys_bpf.map_lookup_and_delete(fd, key, self.new.entry_size, self._flags)
        except KernelError as error:
            # LPM tries, and hash maps before Linux 5.14.
            if error.errno not in (errno.EOPNOTSUPP, errno.EINVAL, _ENOTSUPP):
                raise
        try:
            sys_bpf.map_delete(fd, key)
        except KernelError as error:
            if error.errno != errno.ENOENT:
                raise
        return None

    def _add(
        self, one: Difference, times: Times, merged: "_Result", cpu: int | None = None, *, far: bool = False
    ) -> None:  # fmt: skip
        now = read(self.new, one.key, self._flags)
        if now is None:
            return  # the new program has deleted it
        assert one.after is not None
        before, after = one.before or bytes(len(one.after)), one.after
        if cpu is not None:
            old, new = self.old.stride, self.new.stride
            before, after = (data[cpu * old : (cpu + 1) * old] for data in (before, after))
            now = now[cpu * new : (cpu + 1) * new]
        made = Gains()
        add_gains(made, self.step.ops, before, after, now, times)
        merged.gains.conflicts += made.conflicts
        merged.gains.outgrown += made.outgrown
        if made.found:
            adder = self._adder(made.found)
            adder.run(one.key, [gain.operand for gain in made.found], cpu, far=far)
            merged.values += len(made.found)

    def _adder(self, found: Sequence[Gain]) -> Adder:
        """A program for just these parts: most entries change in the same ones."""
        edits = tuple(one.edit for one in found)
        if edits not in self._adders:
            if len(self._adders) >= _MOST_PROGRAMS:
                self._adders.pop(next(iter(self._adders))).close()
            self._adders[edits] = Adder(self.new, edits, self._lock)
        return self._adders[edits]


class _Result:
    """What a merge did, as it goes."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.values = self.inserted = self.removed = self.lost = 0
        self.gains = Gains()

    def told(self) -> Merged:
        notes = told(f"map {escape(self.name)}", self.gains)
        if self.lost:
            notes += (
                f"map {escape(self.name)} is full: {self.lost} entries made meanwhile are lost",
            )
        return Merged(self.name, self.values, self.inserted, self.removed, notes)
