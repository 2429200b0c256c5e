"""Adapting a program to the kernel it is about to run on (CO-RE: compile once, run everywhere).

Each relocation names a type of the object and a way into it. Types of the same essential name are looked up in the
kernel; those that have the same way must all agree on the answer. An instruction that asks for what the kernel does
not have is poisoned: behind a check such as bpf_core_field_exists() it is dead code and harms nobody.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

from netbpf.bpf import insn as bpf
from netbpf.bpf.btf.ext import CoreRelo
from netbpf.bpf.btf.types import Btf
from netbpf.bpf.core.compat import Comparison
from netbpf.bpf.core.compute import Change, change
from netbpf.bpf.core.patch import POISON, patch
from netbpf.bpf.core.relocation import CoreKind, core_kind, type_text
from netbpf.bpf.core.spec import Parts, Spec, local_spec, match_enumerator, match_field
from netbpf.bpf.core.target import Target
from netbpf.errors import ObjectError

_POISONED = re.compile(rf"^(\d+): \(85\) call unknown#{POISON}$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Resolution:
    """What became of one relocation. ``index`` counts instructions of the program.

    ``text`` is what it asks for (``struct task_struct.pid (0:12)``), ``found`` the same in the kernel or None,
    ``old`` and ``new`` the numbers in the instruction (signed as the instruction has them; None: poisoned),
    ``why`` the reason where it was poisoned.
    """

    index: int
    kind: CoreKind
    text: str
    found: str | None
    old: int | None
    new: int | None
    why: str = ""

    @property
    def poisoned(self) -> bool:
        """Whether the instruction is now one that the verifier refuses if it can be reached."""
        return self.new is None


class _Answer(NamedTuple):
    text: str
    change: Change
    found: Spec | None
    why: str


class Relocator:
    """Resolves the relocations of one object against one kernel, remembering what it found."""

    def __init__(self, local: Btf, target: Target) -> None:
        self.local, self.target = local, target
        self._parts = Parts()
        self._candidates: dict[int, list[tuple[Btf, int]]] = {}
        self._comparisons: dict[int, tuple[Btf, Comparison]] = {}
        self._answers: dict[tuple[int, str, int], _Answer] = {}

    def apply(self, insns: bytearray, relos: Iterable[tuple[int, CoreRelo]]) -> list[Resolution]:
        """Patch instructions in place; pairs are (index of the instruction, relocation).

        Raises ObjectError where the object contradicts itself, or the kernel's types contradict each other.
        """
        return [self._apply(insns, index, relo) for index, relo in relos]

    def _apply(self, insns: bytearray, index: int, relo: CoreRelo) -> Resolution:
        if not 0 <= index < len(insns) // bpf.SIZE:
            raise ObjectError(
                f"a CO-RE relocation is about instruction {index}, which does not exist"
            )
        kind = core_kind(relo.kind)
        answer = self.answer(relo)
        try:
            done = patch(insns, index, answer.change)
        except ObjectError as error:
            what = f"CO-RE relocation {kind.name} of {answer.text} at instruction {index}"
            raise ObjectError(f"{what}: {error.message}") from None
        why = answer.why
        if done is None and not why:
            why = "the kernel's field has another size, and is not an unsigned integer or a pointer"
        old, new = done or (None, None)
        found = answer.found.text() if answer.found else None
        return Resolution(index, kind, answer.text, found, old, new, why if done is None else "")

    def answer(self, relo: CoreRelo) -> _Answer:
        """What a relocation comes to, whatever instruction it is for."""
        key = relo.type_id, relo.access_str, relo.kind
        if key not in self._answers:
            self._answers[key] = self._resolve(relo)
        return self._answers[key]

    def _resolve(self, relo: CoreRelo) -> _Answer:
        kind = core_kind(relo.kind)
        local = local_spec(self.local, relo.type_id, kind, relo.access_str, self._parts)
        text = local.text()
        if kind is CoreKind.TYPE_ID_LOCAL:
            return _Answer(text, change(kind, local, local, self._parts), local, "")
        root = self.local.type(relo.type_id)
        if not root.name:
            raise ObjectError(
                f"CO-RE relocation of {text}: only types with a name can be looked up"
            )
        if relo.type_id not in self._candidates:
            self._candidates[relo.type_id] = self.target.candidates(root.name, root.kind)
        candidates = self._candidates[relo.type_id]
        matching = [
            (candidate, spec, change(kind, local, spec, self._parts))
            for candidate in candidates
            if (spec := self._match(kind, local, *candidate)) is not None
        ]
        if not matching:
            why = f"the kernel has no {type_text(root)}"
            if candidates:
                part = (
                    "enumerator of that name"
                    if kind.about_enumerator
                    else "field of that name and type"
                )
                why = f"the kernel's {type_text(root)} has no {part}"
            return _Answer(text, change(kind, local, None, self._parts), None, why)
        _, first, decided = matching[0]
        for _, spec, other in matching[1:]:
            self._same(kind, first, decided, spec, other)
        # What did not fit once is not what the program means; later relocations need not agree with it.
        self._candidates[relo.type_id] = [candidate for candidate, _, _ in matching]
        return _Answer(text, decided, first, "")

    def _match(self, kind: CoreKind, local: Spec, btf: Btf, type_id: int) -> Spec | None:
        if kind.about_field:
            return match_field(local, btf, type_id, self._parts)
        if kind.about_enumerator:
            return match_enumerator(local, btf, type_id, self._parts)
        _, compare = self._comparisons.setdefault(id(btf), (btf, Comparison(self.local, btf)))
        same = compare.matches if kind is CoreKind.TYPE_MATCHES else compare.compatible
        return Spec(btf, type_id) if same(local.root, type_id) else None

    @staticmethod
    def _same(kind: CoreKind, one: Spec, decided: Change, other: Spec, change: Change) -> None:
        assert decided.new is not None
        assert change.new is not None
        if one.bit_offset == other.bit_offset and decided.new.number == change.new.number:
            return
        raise ObjectError(
            f"CO-RE relocation {kind.name} of {one.text()} is ambiguous: the kernel's types "
            f"{one.root} and {other.root} say {decided.new.number} and {change.new.number}"
        )


def relocate(
    insns: bytearray, relos: Iterable[tuple[int, CoreRelo]], local: Btf, target: Target
) -> list[Resolution]:
    """Patch a program's instructions for a kernel, see ``Relocator.apply``."""
    return Relocator(local, target).apply(insns, relos)


def blame(log: str, resolutions: Iterable[Resolution]) -> Resolution | None:
    """The poisoned relocation that a verifier log ends at, or None where the log is about something else.

    The log must be of the very instructions that were relocated: it counts them.
    """
    seen = [int(found[1]) for found in _POISONED.finditer(log)]
    if not seen:
        return None
    return next((one for one in resolutions if one.poisoned and one.index == seen[-1]), None)


def needs(resolution: Resolution) -> str:
    """A poisoned relocation in words, for a person whose program was rejected for it."""
    return f"it needs {resolution.text}, but {resolution.why}"
