"""Running tables of cases: each case on a program that was loaded for it, each expectation checked."""

import time
from collections.abc import Callable, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any

from netbpf.bpf.object import ObjectSpec
from netbpf.compiler.result import Options
from netbpf.constants import Hook, Mode
from netbpf.errors import NetbpfError, ObjectError, UsageError
from netbpf.manager.settings import variables
from netbpf.manager.sources import find_source
from netbpf.model import Attachment, Interface, Occupant
from netbpf.packets.cases_counters import Moved, add, canonical, moved, unknown_names
from netbpf.packets.cases_counters import wrong as wrong_counters
from netbpf.packets.cases_judge import judge
from netbpf.packets.cases_model import (
    Case,
    CaseFile,
    CaseResult,
    CasesResult,
    Failure,
    Ran,
    Step,
)  # fmt: skip
from netbpf.packets.changes import Snapshot
from netbpf.packets.testrun import Bench, Outcome
from netbpf.packets.verdicts import verdict_numbers, verdict_words
from netbpf.text import did_you_mean, escape

Progress = Callable[[CaseResult], None]


def run_cases(
    file: CaseFile, *, words: Sequence[str] = (), progress: Progress | None = None
) -> CasesResult:
    """Run the cases whose name holds one of ``words``, all without any. ``progress`` is called after each.

    A case that fails is a result; so is a program that the verifier refuses. Raises UsageError with file and line for
    what the file asks and cannot be (a variable, a verdict or a field that is not there), and for words that no case
    has; where no case at all could be run, what the first one raised.
    """
    start = time.perf_counter_ns()
    chosen = [
        one for one in file.cases if not words or any(w.lower() in one.name.lower() for w in words)
    ]
    if not chosen:
        hint = did_you_mean(words[0], [one.name for one in file.cases], "there are")
        raise UsageError(f"no case of {escape(file.path)} is called like that", hint=hint)
    runner = _Runner(file.path)
    results = []
    for case in chosen:
        results.append(runner.case(case))
        if progress:
            progress(results[-1])
    errors = [one.error for one in results]
    if errors[0] is not None and all(type(one) is type(errors[0]) for one in errors):
        raise errors[0]
    return CasesResult(
        file.path,
        tuple(results),
        len(file.cases) - len(chosen),
        time.perf_counter_ns() - start,
        tuple(runner.notes),
    )


class _Runner:
    def __init__(self, path: str) -> None:
        self.path = path
        self.notes: dict[str, None] = {}
        self._read: dict[tuple[str, ...], tuple[bytes, str]] = {}

    def wrong(self, line: int, error: str, hint: str | None = None) -> UsageError:
        return UsageError(f"{escape(self.path)}:{line}: {error}", hint=hint)

    def case(self, case: Case) -> CaseResult:
        """Run one case."""
        start = time.perf_counter_ns()
        try:
            bench = self._load(case)
        except UsageError:
            raise
        except NetbpfError as error:
            words = Failure("error", 1, error.message, detail=(error.hint,) if error.hint else ())
            return CaseResult(
                case,
                case.program or "",
                case.hook,
                (),
                (words,),
                time.perf_counter_ns() - start,
                error,
            )
        with bench:
            ran: list[Ran] = []
            failures: list[Failure] = []
            error_: NetbpfError | None = None
            try:
                self._steps(case, bench, ran, failures)
            except UsageError:
                raise
            except NetbpfError as error:
                error_ = error
                failures.append(Failure("error", len(ran) + 1, error.message))
            took = time.perf_counter_ns() - start
            return CaseResult(
                case, bench.program, bench.hook, tuple(ran), tuple(failures), took, error_
            )

    # --- the program ---

    def _specification(self, case: Case) -> ObjectSpec:
        key = (case.source, *case.include, "-D", *case.define)
        if key not in self._read:
            try:
                found = find_source(case.source, Options(case.include, case.define))
                self._read[key] = ObjectSpec.open(found.path).data, found.name
            except ObjectError as error:
                error.message = f"{escape(self.path)}:{self._line(case, 'object')}: {error.message}"
                error.args = (error.message,)
                raise
            self.notes.update(dict.fromkeys(found.notes))
        return ObjectSpec(*self._read[key])

    @staticmethod
    def _line(case: Case, key: str) -> int:
        return case.lines.get(key, case.line)

    def _load(self, case: Case) -> Bench:
        spec = self._specification(case)
        known = variables(spec)
        before = {name: value for name, value in case.settings.items() if _root(name) in known}
        try:
            bench = Bench.open(
                spec,
                program=case.program,
                hook=case.hook,
                settings=_texts(before),
                map_sizes=case.map_sizes,
            )
        except UsageError as error:
            raise self.wrong(self._line(case, "set"), error.message, error.hint) from None
        after = {name: value for name, value in case.settings.items() if name not in before}
        try:
            self._write(bench, after, self._line(case, "set"))
        except BaseException:
            bench.close()
            raise
        return bench

    def _write(self, bench: Bench, settings: Mapping[str, object], line: int) -> None:
        """Write map entries, and variables of a program that runs."""
        if not settings:
            return
        from netbpf.live.access import Access

        nowhere = Interface(bench.program, 0, 0)
        info = bench.loaded.program.info
        occupant = Occupant(nowhere, bench.hook, Mode.NATIVE, info.id)
        with Access(
            [Attachment(occupant, info, managed=False, manager=None)], bench.program
        ) as access:
            try:
                access.set(_texts(settings))
            except (UsageError, ObjectError) as error:
                raise self.wrong(line, error.message, error.hint) from None

    # --- steps ---

    def _steps(self, case: Case, bench: Bench, ran: list[Ran], failures: list[Failure]) -> None:
        self._check(case, bench)
        total: Moved = {}
        # What a case writes between its packets is not what the program did.
        parted = any(one.settings or one.counters is not None for one in case.steps)
        counted = case.counters is not None
        whole = Snapshot(bench.maps(), bench.hook) if counted and not parted else None
        for number, step in enumerate(case.steps, 1):
            if step.settings:
                self._write(bench, step.settings, step.lines.get("set", step.line))
            part = Snapshot(bench.maps(), bench.hook) if parted else None
            for _ in range(step.repeat):
                outcome = bench.run(step.packet, step.context)
                before = step.context.packet(step.packet)
                ran.append(Ran(before, outcome.data, outcome.verdict, outcome.verdict_name))
                found = self._judged(step, number, bench.hook, outcome)
                failures += found
                if found:
                    break  # of a packet that is repeated, the first is told
            if part is not None:
                happened = moved(part.changes())
                add(total, happened)
                failures += _counted(bench, happened, step.counters, case.ignore_counters, number)
        if whole is not None:
            total = moved(whole.changes())
        failures += _counted(bench, total, case.counters, case.ignore_counters, len(case.steps))

    def _judged(self, step: Step, number: int, hook: Hook, outcome: Outcome) -> list[Failure]:
        try:
            return [*judge(step, number, hook, outcome)]
        except UsageError as error:
            key = error.message.partition(":")[0]
            raise self.wrong(step.lines.get(key, step.line), error.message, error.hint) from None

    def _check(self, case: Case, bench: Bench) -> None:
        """UsageError for names that the program does not have: such an expectation could never fail, or never hold."""

        def line_of(one: Case | Step) -> int:
            return one.lines.get("counters", one.line)

        everywhere: list[Case | Step] = [case, *case.steps]
        for where in everywhere:
            for name, hint in unknown_names(bench, where.counters or ()):
                line = line_of(where)
                words = f"{escape(bench.program)} has no variable or map {escape(name)}"
                raise self.wrong(line, words, hint)
            for name in where.counters or ():
                try:
                    canonical(bench.maps(), name)
                except (UsageError, ObjectError) as error:
                    raise self.wrong(line_of(where), error.message, error.hint) from None
        kind = "xdp" if bench.hook is Hook.XDP else "tc"
        for step in case.steps:
            for name in step.verdict or ():
                if not verdict_numbers(bench.hook, name):
                    hint = did_you_mean(name, verdict_words(bench.hook), "there are")
                    line = step.lines.get("verdict", step.line)
                    raise self.wrong(line, f"{escape(name)!r} is no verdict of {kind}", hint)


def _counted(
    bench: Bench,
    happened: Moved,
    expected: Mapping[str, Any] | None,
    ignored: Sequence[str],
    number: int,
) -> list[Failure]:
    if expected is None:
        return []
    happened = {
        name: values for name, values in happened.items()
        if not any(fnmatchcase(name, one) for one in ignored)
    }  # fmt: skip
    # People see the names they wrote.
    typed = {canonical(bench.maps(), name): name for name in expected}
    rows = wrong_counters(
        {typed.get(name, name): values for name, values in happened.items()}, expected
    )
    if not rows:
        return []
    width = max(len(row.name) for row in rows)
    lines = tuple(f"  {row.name:<{width}}  {row.words}" for row in rows)
    return [
        Failure(
            "counters", number, "counters moved otherwise than expected",
            {row.name: row.expected for row in rows}, {row.name: row.got for row in rows}, lines,
        )
    ]  # fmt: skip


# --- values of the file ---


def _root(name: str) -> str:
    return name.partition(".")[0].partition("[")[0].strip()


def _texts(settings: Mapping[str, object]) -> list[str]:
    """Names and values as ``--set`` takes them."""
    return [f"{name}={_text(value)}" for name, value in settings.items()]


def _text(value: object, *, within: bool = False) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list):
        return "[" + ", ".join(_text(one, within=True) for one in value) + "]"
    if isinstance(value, dict):
        return (
            "{"
            + ", ".join(f"{name}: {_text(one, within=True)}" for name, one in value.items())
            + "}"
        )
    text = str(value)
    return (
        f'"{text}"'
        if within and isinstance(value, str) and any(c in text for c in ",{}[]: ")
        else text
    )
