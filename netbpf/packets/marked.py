"""Showing the place in a text that is wrong."""

from netbpf.text import escape

_AROUND = 60  # characters shown on each side of the place


def marked(text: str, at: int, length: int = 1) -> tuple[str, str]:
    """The line of ``text`` around a place, cut where it is long, and a line of ``^`` below that place."""
    at = min(max(at, 0), len(text))
    begin = text.rfind("\n", 0, at) + 1
    end = text.find("\n", at)
    end = len(text) if end < 0 else end
    first, last = max(begin, at - _AROUND), min(end, at + _AROUND)
    before, after = ("... " if first > begin else ""), (" ..." if last < end else "")
    lead = before + escape(text[first:at])
    place = escape(text[at : min(at + length, last)])
    line = lead + place + escape(text[at + length : last]) + after
    return line, " " * len(lead) + "^" * max(len(place), 1)
