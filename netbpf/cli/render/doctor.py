"""Output of ``doctor``."""

from netbpf.cli.output import Line, print_json, say
from netbpf.errors import ExitCode
from netbpf.host.finding import Level, Report


def print_report(found: Report, *, as_json: bool) -> int:
    """The sections one under the other, and a sum; the exit code: 5 where there is a problem."""
    if as_json:
        _json(found)
    else:
        _text(found)
    return ExitCode.NOT_SUPPORTED if found.count(Level.PROBLEM) else ExitCode.OK


def _json(found: Report) -> None:
    findings = [
        {
            "section": section.title,
            "check": one.check,
            "level": one.level.value,
            "text": one.text,
            "why": one.why,
            "fix": list(one.fix),
        }
        for section in found.sections
        for one in section.findings
    ]
    counts = {
        f"{level.value}s" if level is not Level.OK else "ok": found.count(level) for level in Level
    }
    print_json("doctor", {"findings": findings, **counts})


def _text(found: Report) -> None:
    width = max(len(one.check) for one in found.findings)
    lines = []
    for section in found.sections:
        lines.append(Line(section.title, "bold"))
        for one in section.findings:
            # Not coloured alone: the word says it to everybody.
            style = "" if one.level is Level.OK else "bold"
            lines.append(Line(f"  {one.level.value:<8} {one.check:<{width}}  {one.text}", style))
            gap = " " * (width + 13)
            if one.why:
                lines.append(Line(f"{gap}{one.why}", "dim"))
            lines += [Line(f"{gap}fix: {command}") for command in one.fix]
        lines.append(Line(""))
    warnings, problems = found.count(Level.WARNING), found.count(Level.PROBLEM)
    lines.append(Line(f"{_number(problems, 'problem')}, {_number(warnings, 'warning')}", "bold"))
    say(lines)


def _number(count: int, word: str) -> str:
    return f"{count or 'no'} {word}{'' if count == 1 else 's'}"
