"""Results of cases as JUnit XML, which every CI server shows.

One <testsuite> for each file; a case that failed is a <failure>, one whose program could not be run an <error>.
"""

import os
import re
from collections.abc import Sequence
from pathlib import Path
from xml.sax.saxutils import escape as escape_text
from xml.sax.saxutils import quoteattr

from netbpf.errors import NetbpfError
from netbpf.packets.cases_model import CaseResult, CasesResult
from netbpf.text import escape

# Characters that XML 1.0 does not have at all (section 2.2).
_NONE = re.compile("[^\\t\\n\\r\\x20-\\ud7ff\\ue000-\\ufffd\\U00010000-\\U0010ffff]")


def junit(results: Sequence[CasesResult]) -> str:
    """The XML text of the results of several files."""
    total = _counts(results)
    lines = ['<?xml version="1.0" encoding="utf-8"?>', f'<testsuites name="netbpf test"{total}>']
    for one in results:
        lines.append(f"  <testsuite name={_quoted(one.path)}{_counts([one])}>")
        for result in one.results:
            lines += _case(one.path, result)
        lines.append("  </testsuite>")
    return "\n".join([*lines, "</testsuites>", ""])


def write_junit(path: str | os.PathLike[str], results: Sequence[CasesResult]) -> None:
    """Write it to a file, whole or not at all. NetbpfError where that cannot be."""
    target = Path(path)
    content = junit(results).encode()
    try:
        if target.exists() and not target.is_file():  # a pipe, /dev/stdout
            target.write_bytes(content)
            return
        part = target.with_name(f".{target.name}.{os.getpid()}")
        try:
            part.write_bytes(content)
            part.replace(target)
        finally:
            part.unlink(missing_ok=True)
    except OSError as error:
        raise NetbpfError(f"cannot write {escape(os.fspath(path))}: {error.strerror}") from None


def _counts(results: Sequence[CasesResult]) -> str:
    number = sum(len(one.results) for one in results)
    failures, errors = (sum(one.count(word) for one in results) for word in ("failed", "error"))
    seconds = sum(one.duration_ns for one in results) / 1e9
    return f' tests="{number}" failures="{failures}" errors="{errors}" skipped="0" time="{seconds:.6f}"'


def _case(path: str, result: CaseResult) -> list[str]:
    head = (
        f"    <testcase classname={_quoted(Path(path).stem)} name={_quoted(result.case.name)} "
        f'file={_quoted(path)} line="{result.case.line}" time="{result.duration_ns / 1e9:.6f}"'
    )
    if not result.failures:
        return [head + "/>"]
    word = "error" if result.outcome == "error" else "failure"
    message = "; ".join(one.message for one in result.failures)
    detail = "\n".join("\n".join([one.message, *one.detail]) for one in result.failures)
    kind = type(result.error).__name__ if result.error else result.failures[0].kind
    return [
        head + ">",
        f"      <{word} type={_quoted(kind)} message={_quoted(message)}>{escape_text(_clean(detail))}</{word}>",
        "    </testcase>",
    ]


def _clean(text: str) -> str:
    return _NONE.sub("\N{REPLACEMENT CHARACTER}", text)


def _quoted(text: str) -> str:
    return quoteattr(_clean(text))
