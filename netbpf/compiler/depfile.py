"""Reading the make rules in which a compiler lists the headers it included (``-MD -MF``)."""

import os
import re
from pathlib import Path

_TOKEN = re.compile(r"((?:\\[^\n]|[^\s\\])+)")


def dependencies(path: Path, base: str) -> tuple[str, ...] | None:
    """The absolute paths of the files behind the colon, relative ones taken from ``base``.

    None where one of them is not there: a name with a line break in it is written in a way that cannot be read
    back. Names beginning with /virtual/ are BCC's own headers, which live in its library.
    """
    text = path.read_text(encoding="utf-8", errors="surrogateescape")
    _, colon, rule = text.partition(": ")
    if not colon:
        return None
    found = []
    for word in _TOKEN.findall(rule.replace("\\\n", " ")):
        name = re.sub(r"\\([ #])", r"\1", word).replace("$$", "$")
        if name.startswith("/virtual/"):
            continue
        full = os.path.normpath(os.path.join(base, name))  # noqa: PTH118 - surrogates, and no Path needed
        if not os.path.isfile(full):  # noqa: PTH113
            return None
        found.append(full)
    return tuple(dict.fromkeys(found))
