"""Programs loaded with probes, and what the probes say of them.

What the verifier does not take with all probes gets fewer, step by step, and what it got is kept with it: nobody has to
believe that a line was never reached where nobody looked.
"""

import errno
import hashlib
import re
from collections.abc import Callable, Iterator
from typing import Final, Self

from netbpf.bpf import insn as bpf
from netbpf.bpf.cover.active import Answer, Submit
from netbpf.bpf.cover.covered import Covered, Numbers, Variant, said
from netbpf.bpf.cover.flow import Unknown, analyse
from netbpf.bpf.cover.plan import (
    SLOT,
    TRACE_ENTRIES,
    Level,
    Probe,
    place,
    size_of,
)
from netbpf.bpf.cover.rewrite import lay, moved_image
from netbpf.bpf.linker import Image
from netbpf.bpf.object import ObjectSpec, ProgramSpec
from netbpf.errors import KernelError
from netbpf.text import escape

_DEPTH: Final = re.compile(r"^stack depth ([0-9+]+)", re.MULTILINE)
_STEPS: Final = (Level.TRACE, Level.COUNTS, Level.HITS, Level.FUNCTIONS)


class Collector:
    """Instruments programs while it is in use (``with collecting(collector):``), and keeps what they count.

    ``level`` is what is asked for; ``made`` is told of every map.
    It holds one map for each program; close it, or use it as a context manager.
    """

    def __init__(
        self, level: Level = Level.COUNTS, made: Callable[[Numbers], None] | None = None
    ) -> None:
        self.level, self._made = level, made
        self._covered: dict[bytes, Covered] = {}
        self._trace: Numbers | None = None
        self._slots: list[tuple[Covered, int]] = []

    @property
    def covered(self) -> list[Covered]:
        """The programs, in the order in which they were loaded first."""
        return list(self._covered.values())

    @property
    def by_code(self) -> dict[str, Covered]:
        """The same by a digest of their code and its lines, which is the same in every process."""
        return {key.hex(): one for key, one in self._covered.items()}

    # --- instrumenting ---

    def instrument(
        self, spec: ObjectSpec, program: ProgramSpec, image: Image, submit: Submit
    ) -> Image:
        """The code to load in place of ``image``: with as many probes as the verifier takes."""
        key = _key(spec, program, image)
        known = self._covered.get(key)
        if known is None:
            kept = Image(
                bytearray(image.insns), list(image.functions), list(image.maps), list(image.externs),
                list(image.lines), list(image.relocations),
            )  # fmt: skip
            known = Covered(spec, program, kept, None, self.level)
            try:
                known.flow = analyse(
                    image.insns, [one.at for one in image.functions], _throws(image)
                )
            except Unknown:
                return image  # the verifier will say what is wrong with it
        found = self._try(known, image, submit)
        if found is None:
            return image
        known.loads += 1
        self._covered[key] = known
        return found

    def _try(self, one: Covered, image: Image, submit: Submit) -> Image | None:
        """The code that the verifier takes; None if it does not take the program anyway."""
        for before in one.variants:
            made = moved_image(image, before.laid, before.numbers.fd.fileno())
            if not submit(made, False).errno:
                return made
        taken = self.level is Level.NOTHING
        for variant, made, answer in self._steps(one, image, submit):
            if variant is not None:
                one.variants.append(variant)
                one.level = variant.level
                if not variant.complete and not one.note:
                    name = escape(one.program.name)
                    one.note = f"{name} has too few registers and too little stack to spare"
                return made
            if not taken and submit(image, False).errno:
                return None
            taken = True
            one.note = _why(one, answer)
        one.level = Level.NOTHING
        return image

    def _steps(
        self, one: Covered, image: Image, submit: Submit
    ) -> Iterator[tuple[Variant | None, Image, Answer]]:
        """Ever fewer probes, the code with them, and what the verifier says of it."""
        assert one.flow is not None
        tried = {variant.level for variant in one.variants}
        for level in _STEPS[_STEPS.index(self.level) :] if self.level in _STEPS else ():
            if level in tried:
                continue
            first = len(self._slots) if level is Level.TRACE else 0
            probes, whole = place(one.flow, level, first)
            ways = [(probes, whole)]
            if not whole and (stacks := _stacks(image, submit)):
                ways.insert(0, place(one.flow, level, first, stacks))
            for way, complete in ways:
                # With a part of it missing nobody could tell the order.
                if complete or level is not Level.TRACE:
                    yield self._attempt(one, level, way, image, submit, complete=complete)

    def _attempt(
        self,
        one: Covered,
        level: Level,
        probes: list[Probe],
        image: Image,
        submit: Submit,
        *,
        complete: bool,
    ) -> tuple[Variant | None, Image, Answer]:
        assert one.flow is not None
        laid = lay(image.insns, one.flow, probes)
        try:
            numbers = self._numbers(level, len(probes))
        except KernelError as error:
            return None, image, Answer(error.errno or errno.ENOMEM, "")
        made = moved_image(image, laid, numbers.fd.fileno())
        answer = submit(made, False)
        if answer.errno:
            if numbers is not self._trace:
                numbers.close()
            return None, image, answer
        if level is Level.TRACE:
            self._slots += [(one, probe.edge) for probe in probes]
        return Variant(level, tuple(probes), laid, numbers, complete), made, answer

    def _numbers(self, level: Level, probes: int) -> Numbers:
        size = size_of(level, probes)
        if level is Level.TRACE and self._trace:
            return self._trace
        made = Numbers(size)
        if level is Level.TRACE:
            self._trace = made
        if self._made:
            self._made(made)
        return made

    # --- reading ---

    def trace(self) -> tuple[list[tuple[Covered, int]], int]:
        """The edges along which control went, in order, each with its program; and how many before are lost."""
        if self._trace is None:
            return [], 0
        numbers = self._trace.read()
        written = numbers[0] // SLOT
        kept = min(written, TRACE_ENTRIES)
        # Entry k lies at index k modulo the size, behind the number; the first is k = 1.
        order = range(written - kept + 1, written + 1)
        return [self._slots[numbers[1 + k % TRACE_ENTRIES]] for k in order], written - kept

    def less(self, why: str) -> bool:
        """Count a step less of every program, for what loads them together; False if there is no step left.

        ``why`` is said of each. What was counted until now is forgotten.
        """
        if self.level is Level.NOTHING:
            return False
        self.level = (*_STEPS, Level.NOTHING)[_STEPS.index(self.level) + 1]
        for numbers in self._every():
            numbers.close()
        self._trace, self._slots = None, []
        for one in self._covered.values():
            one.variants, one.level, one.note = [], self.level, why
        return True

    def clear(self) -> None:
        """Forget what was counted, not what is loaded."""
        for numbers in self._every():
            numbers.clear()

    def _every(self) -> Iterator[Numbers]:
        if self._trace:
            yield self._trace
        for one in self._covered.values():
            for variant in one.variants:
                if variant.numbers is not self._trace:
                    yield variant.numbers

    def held(self) -> list[Numbers]:
        """What it keeps open."""
        return list(self._every())

    def close(self) -> None:
        """Let go of the maps; what was read of them remains good."""
        for numbers in self._every():
            numbers.close()
        self._covered.clear()
        self._trace = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


# --- of one program ---


def _key(spec: ObjectSpec, program: ProgramSpec, image: Image) -> bytes:
    """The same for the same code from the same source, whatever maps it uses."""
    code = bytearray(image.insns)
    for ref in image.maps:
        bpf.set_imm(code, ref.at, 0)
    digest = hashlib.blake2b(code, digest_size=16)
    digest.update(repr((program.name, image.lines)).encode())
    if spec.btf is not None:
        digest.update(spec.btf.strings)
    return digest.digest()


def _throws(image: Image) -> list[int]:
    return [one.at for one in image.externs if one.name.partition("___")[0] == "bpf_throw"]


def _stacks(image: Image, submit: Submit) -> tuple[int, ...] | None:
    """Bytes of stack of each function in order, as the verifier found them."""
    answer = submit(image, True)
    found = _DEPTH.search(answer.log)
    if answer.errno or not found:
        return None
    depths = tuple(int(one) for one in found[1].split("+") if one)
    return depths if len(depths) == len(image.functions) else None


def _why(one: Covered, answer: Answer) -> str:
    name = escape(one.program.name)
    if answer.errno == errno.E2BIG:
        return f"{name} is so complex that the verifier does not take it with more to count"
    what = answer.log.strip().splitlines()
    said = f": {escape(what[0])}" if what else ""
    return f"the verifier does not take {name} with more to count{said}"


__all__ = ("Collector", "Covered", "Numbers", "Variant", "said")
