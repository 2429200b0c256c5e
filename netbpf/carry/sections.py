"""Moving a section of variables."""

from netbpf.bpf.btf.types import Btf
from netbpf.bpf.map import Map
from netbpf.carry.adder import MAX_EDITS, Adder
from netbpf.carry.merge import Gains, Times, add_gains, told
from netbpf.carry.model import Merged
from netbpf.carry.ops import Op
from netbpf.carry.reading import BPF_F_LOCK, lock_offset, read_section
from netbpf.carry.steps import SectionStep
from netbpf.errors import ObjectError
from netbpf.text import escape

_KEY = bytes(4)


class SectionMove:
    """One section of the new object, filled from those of the old one."""

    def __init__(self, step: SectionStep, new: Map, btf: Btf | None) -> None:
        self.step, self.new = step, new
        self._lock = lock_offset(btf, step.spec)
        self._flags = 0 if self._lock is None else BPF_F_LOCK
        self._before: dict[str, bytes] = {}

    def copy(self) -> None:
        """Move the variables. Raises ObjectError for a value that the new type does not have."""
        assert self.step.spec.initial is not None
        content = bytearray(self.step.spec.initial)
        for source in self.step.sources:
            before = read_section(source.live, source.flags)
            self._before[source.name] = before
            for one in source.ops:
                _check_range(one, before)
                one.copy(before, content)
        self.new.update(_KEY, bytes(content))

    def merge(self, times: Times) -> Merged:
        """What the old variables have gained since."""
        made = Gains()
        now = read_section(self.new, self._flags)
        for source in self.step.sources:
            before, after = self._before[source.name], read_section(source.live, source.flags)
            add_gains(made, source.ops, before, after, now, times)
        for start in range(0, len(made.found), MAX_EDITS):
            part = made.found[start : start + MAX_EDITS]
            with Adder(self.new, [one.edit for one in part], self._lock) as adder:
                adder.run(_KEY, [one.operand for one in part])
        return Merged(self.step.name, len(made.found), notes=told(escape(self.step.name), made))


def _check_range(one: Op, before: bytes) -> None:
    if not one.may_not_fit:
        return
    for place in one.places():
        value = one.read_old(before, place.old)
        if not one.fits(value):
            raise ObjectError(
                f"{escape(one.called(place.indexes))} has become {value} meanwhile, which the new type does not have"
            )
