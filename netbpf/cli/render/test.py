"""What ``netbpf test`` prints."""

import shlex
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import click

from netbpf.cli.output import Line, print_json, say
from netbpf.packets.cases_model import CaseResult, CasesResult, Failure
from netbpf.text import escape

_MARKS = {"passed": "ok  ", "failed": "FAIL", "error": "ERR "}


def print_result(result: CasesResult, *, verbose: bool) -> None:
    """The cases of one file: those that failed with all there is to say."""
    for note in result.notes:
        click.echo(f"netbpf: note: {escape(note)}", err=True)
    say(_lines(result, verbose=verbose))


def print_test(
    results: Sequence[CasesResult], *, as_json: bool, more: Mapping[str, Any] | None = None
) -> int:
    """The sum, or ``netbpf.test/1`` and ``more``; the exit code."""
    passed = all(one.passed for one in results)
    if as_json:
        print_json("test", {**_json(results), **(more or {})})
        return 0 if passed else 1
    total = sum(len(one.results) for one in results)
    parts = [f"{total} case{'' if total == 1 else 's'}"]
    for word, outcome in (("passed", "passed"), ("failed", "failed"), ("in error", "error")):
        number = sum(one.count(outcome) for one in results)
        if number or outcome == "passed":
            parts.append(f"{number} {word}")
    skipped = sum(one.skipped for one in results)
    if skipped:
        parts.append(f"{skipped} not chosen")
    took = sum(one.duration_ns for one in results) / 1e6
    say([Line(f"{', '.join(parts)}; {took:.0f} ms", "bold")])
    return 0 if passed else 1


def _lines(result: CasesResult, *, verbose: bool) -> Iterator[Line]:
    yield Line(escape(result.path), "bold")
    for one in result.results:
        if one.outcome == "passed" and not verbose:
            continue
        yield Line(
            f"  {_MARKS[one.outcome]}  {escape(one.case.name)}", "" if one.failures else "dim"
        )
        several = len(one.case.steps) > 1
        for failure in one.failures:
            yield from _failure(failure, several=several)
        if one.failures:
            yield from (Line(f"        {text}", "dim") for text in _again(result.path, one))


def _failure(failure: Failure, *, several: bool) -> Iterator[Line]:
    where = f"step {failure.step}, " if several else ""
    yield Line(f"        {where}{failure.kind}: {escape(failure.message)}")
    for text in failure.detail:
        yield Line(f"        {escape(text)}")


def _again(path: str, result: CaseResult) -> Iterator[str]:
    case = result.case
    yield f"line {case.line}; again: netbpf test {shlex.quote(path)} -k {shlex.quote(case.name)}"


# --- JSON ---


def _json(results: Sequence[CasesResult]) -> dict[str, Any]:
    return {
        "passed": sum(one.count("passed") for one in results),
        "failed": sum(one.count("failed") for one in results),
        "errors": sum(one.count("error") for one in results),
        "skipped": sum(one.skipped for one in results),
        "duration_ns": sum(one.duration_ns for one in results),
        "cases": [_case_json(file.path, one) for file in results for one in file.results],
    }


def _case_json(path: str, result: CaseResult) -> dict[str, Any]:
    return {
        "file": path,
        "line": result.case.line,
        "name": result.case.name,
        "object": result.case.source,
        "program": result.program,
        "hook": None if result.hook is None else "xdp" if result.hook == "xdp" else "tc",
        "outcome": result.outcome,
        "duration_ns": result.duration_ns,
        "packets": [
            {"before": one.before.hex(), "after": one.after.hex(), "verdict": one.verdict_name}
            for one in result.ran
        ],
        "failures": [_failure_json(one) for one in result.failures],
    }


def _failure_json(one: Failure) -> dict[str, Any]:
    counted = one.expected if isinstance(one.expected, dict) else {}
    expected, got = (None, None) if counted else (one.expected, one.got)
    return {
        "kind": one.kind,
        "step": one.step,
        "message": one.message,
        "expected": " or ".join(expected) if isinstance(expected, list) else expected,
        "got": got,
        "counters": [
            {"name": name, "expected": value, "got": one.got[name]}
            for name, value in counted.items()
        ],
    }
