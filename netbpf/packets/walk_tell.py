"""From what a program was seen doing to lines of its source, branches, and entries of its maps."""

import errno
import os
from collections.abc import Mapping, Sequence
from ipaddress import IPv4Address
from typing import Final

from netbpf.bpf import insn as bpf
from netbpf.bpf.btf.values import Value, format_value
from netbpf.bpf.cover.collector import Covered
from netbpf.bpf.cover.lines import Span, spans
from netbpf.bpf.cover.registers import effects
from netbpf.bpf.cover.touches import Does, Touched
from netbpf.bpf.cover.trace import Ran, Step
from netbpf.bpf.cover.watcher import Seen, Touch
from netbpf.bpf.disasm import disassemble
from netbpf.constants import Hook, TcAction, XdpAction
from netbpf.live.reader import OpenMap, map_type
from netbpf.packets.walk_model import Decision, MapTouch

_MOV32_REG, _MOV64_REG = 0xBC, 0xBF
_U64: Final = (1 << 64) - 1
_HIGHEST_ERRNO: Final = 4095  # MAX_ERRNO, include/linux/err.h


class Lines:
    """Where the instructions of programs come from."""

    def __init__(self) -> None:
        self._known: dict[int, tuple[Covered, dict[int, Span], list[str]]] = {}

    def of(self, one: Ran) -> Step | None:
        """The line of an instruction; None where it has none."""
        covered = one.covered
        if id(covered) not in self._known:
            by_insn: dict[int, Span] = {}
            for span in spans(covered.spec, covered.image):
                by_insn.update(dict.fromkeys(range(span.start, span.end), span))
            placed = sorted(covered.image.functions, key=lambda each: each.at)
            self._known[id(covered)] = (covered, by_insn, [each.function.name for each in placed])
        _, by_insn, names = self._known[id(covered)]
        found = by_insn.get(one.at)
        return Step(covered.program.name, names[found.function], found.source) if found else None


def _shown(opened: OpenMap | None, key: Value) -> str:
    """A key for people: of a 32-bit number in network byte order the address that it most likely is."""
    if opened is None or key is None:
        return ""
    text = format_value(key)
    name = opened.btf.type(opened.info.btf_key_type_id).name if opened.btf else ""
    return f"{text} ({IPv4Address(key)})" if isinstance(key, int) and name == "__be32" else text


def place(step: Step) -> tuple[str, str, str, int]:
    """What makes two steps one line."""
    return step.program, step.function, step.source.file, step.source.line


class Told:
    """What is told of one run of one program; ``maps`` are those of the program by their names in the object."""

    def __init__(self, seen: Seen, lines: Lines, maps: Mapping[str, OpenMap], hook: Hook) -> None:
        self._seen, self._maps, self._hook = seen, maps, hook
        self._each = [lines.of(one) for one in seen.ran]

    def steps(self) -> tuple[Step, ...]:
        """The lines that ran, each once until another one ran."""
        found: list[Step] = []
        for step in self._each:
            if step and (not found or place(found[-1]) != place(step)):
                found.append(step)
        return tuple(found)

    def _at(self, index: int | None) -> Step | None:
        """The line at an instruction, or the last one before it: what the compiler moved has none of its own."""
        if index is None:
            return None
        return next((self._each[n] for n in range(index, -1, -1) if self._each[n]), None)

    # --- maps ---

    def touches(self) -> tuple[MapTouch, ...]:
        """What was asked of maps, in order."""
        return tuple(self._touch(one) for one in self._seen.touches)

    def _touch(self, one: Touch) -> MapTouch:
        what, site = one.what, one.what.site
        opened = self._maps.get(site.map)
        key = value = None
        if opened is not None:
            key = opened.key(what.key) if what.key is not None else None
            value = self._value(opened, what)
        address = (what.result or 0) & _U64 if site.does is Does.LOOKUP else 0
        return MapTouch(
            site.map, map_type(opened) if opened else "", site.does.value, key, self._outcome(what),
            value, self._at(one.where), address, _shown(opened, key),
        )  # fmt: skip

    @staticmethod
    def _value(opened: OpenMap, what: Touched) -> Value:
        # What is cut cannot be decoded by its type.
        if what.value is None or len(what.value) < opened.info.value_size:
            return None
        return opened.value(what.value)

    def _outcome(self, what: Touched) -> str:
        does, result = what.site.does, what.result
        if does is Does.TAIL_CALL:
            return "went there" if result is None else "not found"
        if result is None:
            return "unknown"
        if does is Does.LOOKUP:
            return "found" if result else "not found"
        if does is Does.REDIRECT:
            there = XdpAction.REDIRECT if self._hook is Hook.XDP else TcAction.REDIRECT
            return "found" if result == there else "not found"
        if not result:
            return "done"
        number = -result
        if does is Does.DELETE and number == errno.ENOENT:
            return "not found"
        known = 0 < number <= _HIGHEST_ERRNO
        return f"failed: {os.strerror(number) if known else result}"

    # --- branches ---

    def decisions(self, touches: Sequence[MapTouch]) -> tuple[Decision, ...]:
        """The branches that were met, in order; ``touches`` are this run's."""
        found = []
        lookups = [
            (one.where, touch)
            for one, touch in zip(self._seen.touches, touches, strict=True)
            if one.where is not None and touch.does == "lookup"
        ]
        at = 0
        last: MapTouch | None = None
        for branch in self._seen.branches:
            while at < len(lookups) and lookups[at][0] < branch.where:
                last = lookups[at][1]
                at += 1
            step, compared = self._at(branch.where), branch.compared
            asks = compared and compared.constant and not compared.right
            asked = last if asks and last and compared and compared.left == last.address else None
            onward, condition = self._onward(branch.where, step), self._condition(branch.where)
            found.append(Decision(step, onward, branch.taken, condition, compared, asked))
        return tuple(found)

    def _condition(self, where: int) -> str:
        covered, at = self._seen.ran[where]
        code = covered.image.insns[at * bpf.SIZE : (at + 1) * bpf.SIZE]
        return next(iter(disassemble(code))).text.partition(" goto")[0]

    def _onward(self, where: int, step: Step | None) -> Step | None:
        """The next other line that ran."""
        for one in self._each[where + 1 :]:
            if one and (step is None or place(one) != place(step)):
                return one
        return None

    # --- the verdict ---

    def decided(self) -> Step | None:
        """The line on which the verdict was made: where what the program gave back was put into a register."""
        wanted, depth = 0, 0
        for index in range(len(self._seen.ran) - 1, -1, -1):
            covered, at = self._seen.ran[index]
            one = bpf.read(covered.image.insns, at)
            if one.code == bpf.EXIT and index < len(self._seen.ran) - 1:
                depth += 1  # backwards into a function that was called
                continue
            if depth and wanted:
                if one.code == bpf.CALL and one.src == bpf.PSEUDO_CALL:
                    depth -= 1
                continue
            if one.code == bpf.CALL and one.src == bpf.PSEUDO_CALL:
                depth = max(depth - 1, 0)
                continue
            _, defines, _ = effects(one)
            if not defines >> wanted & 1:
                continue
            if one.code in (_MOV32_REG, _MOV64_REG) and not one.off:
                wanted = one.src
                continue
            return self._each[index]
        return None
