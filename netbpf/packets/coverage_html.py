"""Annotated sources as HTML pages that need nothing besides themselves."""

import hashlib
import os
import re
from collections.abc import Iterator
from html import escape as quoted
from pathlib import Path

from netbpf.errors import NetbpfError
from netbpf.packets.coverage_model import Branch, Coverage, FileCoverage
from netbpf.packets.coverage_source import source_lines
from netbpf.text import escape

_STYLE = """
:root { color-scheme: light dark; --hit: #d7f0d7; --miss: #f8d3d3; --part: #fbeec2; --dim: #777; --bar: #4a9a4a; }
@media (prefers-color-scheme: dark) { :root { --hit: #1d3a1d; --miss: #4d1f1f; --part: #4a3f14; --dim: #999; } }
body { font: 15px system-ui, sans-serif; margin: 2em; }
table { border-collapse: collapse; }
td, th { padding: .15em .8em; text-align: left; white-space: pre; }
th { border-bottom: 1px solid var(--dim); }
.n { text-align: right; font-variant-numeric: tabular-nums; }
.source td { font: 13px ui-monospace, monospace; padding: 0 .8em; vertical-align: top; }
.source td.n { color: var(--dim); user-select: none; }
.hit td:last-child { background: var(--hit); } .miss td:last-child { background: var(--miss); }
.part td:last-child { background: var(--part); } .unknown td:last-child { opacity: .5; }
.ways { color: var(--dim); } tr:target td { outline: 1px solid var(--dim); }
meter { width: 8em; } p.note { color: var(--dim); }
"""


def write_html(directory: str | os.PathLike[str], coverage: Coverage) -> Path:
    """Write ``index.html`` and a page for each file into a directory, which is made; the path of the index.

    Raises NetbpfError where that cannot be done.
    """
    where = Path(directory)
    try:
        where.mkdir(parents=True, exist_ok=True)
        for one in coverage.files:
            (where / _page_name(one)).write_text("\n".join(_page(one)) + "\n")
        index = where / "index.html"
        index.write_text("\n".join(_index(coverage)) + "\n")
    except OSError as error:
        what = escape(os.fspath(error.filename or directory))
        raise NetbpfError(f"cannot write {what}: {os.strerror(error.errno or 0)}") from None
    return index


def _page_name(one: FileCoverage) -> str:
    plain = re.sub(r"[^A-Za-z0-9_.-]+", "_", one.path).strip("._")[-80:]
    return f"{plain}.{hashlib.blake2b(one.path.encode(), digest_size=4).hexdigest()}.html"


def _head(title: str) -> Iterator[str]:
    yield '<!DOCTYPE html><html lang="en"><meta charset="utf-8">'
    yield f"<title>{quoted(title)}</title><style>{_STYLE}</style>"
    yield f"<h1>{quoted(title)}</h1>"


def _share(part: int, whole: int) -> str:
    if not whole:
        return '<td class="n"></td><td class="n"></td><td></td>'
    share = f"{100 * part / whole:.1f} %"
    meter = f'<meter value="{part}" max="{whole}"></meter>'
    return f'<td class="n">{part}/{whole}</td><td class="n">{share}</td><td>{meter}</td>'


def _index(coverage: Coverage) -> Iterator[str]:
    yield from _head("Coverage of BPF programs")
    yield from (f'<p class="note">{quoted(note)}</p>' for note in coverage.notes)
    yield '<table><tr><th>file</th><th colspan="3">lines</th><th colspan="3">branches</th></tr>'
    for one in coverage.files:
        link = f'<a href="{quoted(_page_name(one))}">{quoted(one.path)}</a>'
        lines, ways = _share(one.reached, len(one.lines)), _share(one.ways_reached, one.ways)
        yield f"<tr><td>{link}</td>{lines}{ways}</tr>"
    all_ways = sum(one.ways for one in coverage.files)
    gone = sum(one.ways_reached for one in coverage.files)
    lines, ways = _share(coverage.reached, coverage.lines), _share(gone, all_ways)
    yield f"<tr><th>total</th>{lines}{ways}</tr></table>"


def _page(one: FileCoverage) -> Iterator[str]:
    yield from _head(one.path)
    lines, ways = _share(one.reached, len(one.lines)), _share(one.ways_reached, one.ways)
    yield '<p><a href="index.html">all files</a></p>'
    yield f"<table><tr><td>{one.unit}s</td>{lines}</tr><tr><td>branches</td>{ways}</tr></table>"
    by_line: dict[int, list[Branch]] = {}
    for branch in one.branches:
        by_line.setdefault(branch.line, []).append(branch)
    text = source_lines(one)
    if one.unit == "line" and len(text) <= len(one.lines):
        yield '<p class="note">The file is not here as it was compiled: these are the lines that the object holds.</p>'
    yield '<table class="source">'
    for number in sorted({*text, *one.lines}):
        yield _row(one, number, text.get(number, ""), by_line.get(number, []))
    yield "</table>"


def _row(one: FileCoverage, number: int, text: str, branches: list[Branch]) -> str:
    count = one.lines.get(number)
    whole = all(way for branch in branches for way in branch.ways)
    state, shown = "", ""
    if number in one.lines:
        state = "unknown" if count is None else "miss" if not count else "hit" if whole else "part"
        shown = "?" if count is None else f"{count:,}"
    ways = ", ".join(
        dict.fromkeys(branch_words(branch) for branch in branches if not all(branch.ways))
    )
    title = f' title="{quoted(ways)}"' if ways and count else ""
    said = f'<span class="ways">  // {quoted(ways)}</span>' if title else ""
    return (
        f'<tr class="{state}" id="L{number}"><td class="n">{number}</td><td class="n">{shown}</td>'
        f"<td{title}>{quoted(text.expandtabs(8))}{said}</td></tr>"
    )


def branch_words(branch: Branch) -> str:
    """What one branch lacks: ``never taken in xdp_count``."""
    where = f"in {escape(branch.program)}"
    if None in branch.ways:
        return f"not measured {where}"
    if not any(branch.ways):
        return f"not reached {where}"
    return f"{'never' if branch.not_taken else 'always'} taken {where}"
