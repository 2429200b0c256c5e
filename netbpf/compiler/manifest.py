"""Whether files are still what they were when they were compiled."""

import hashlib
import os
from collections.abc import Iterable, Sequence
from typing import NamedTuple

# A file changed within this time (ns) before it was looked at may change again without its times moving.
_RACY = 2_000_000_000


class File(NamedTuple):
    """A file's content and the signs by which to see that it is untouched. ``settled``: the signs can be trusted."""

    path: str
    size: int
    signs: list[int]
    settled: bool
    sha256: str


def _signs(status: os.stat_result) -> list[int]:
    return [status.st_mtime_ns, status.st_ctime_ns, status.st_ino, status.st_dev]


def _digest(path: str) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def describe(paths: Iterable[str], began: int) -> list[File] | None:
    """The files as they are; None where one changed since ``began`` (ns since the epoch) or cannot be read."""
    found = []
    try:
        for path in paths:
            status = os.stat(path)  # noqa: PTH116 - hundreds of files
            newest = max(status.st_mtime_ns, status.st_ctime_ns)
            if newest >= began:
                return None
            found.append(
                File(path, status.st_size, _signs(status), newest < began - _RACY, _digest(path))
            )
    except OSError:
        return None
    return found


def unchanged(files: Iterable[File], absent: Iterable[str]) -> bool:
    """Whether all files have the content they had and none of those that were absent has appeared."""
    for file in files:
        status = os.stat(file.path)  # noqa: PTH116
        if file.settled and file.signs == _signs(status):
            continue
        if status.st_size != file.size or _digest(file.path) != file.sha256:
            return False
    return not any(os.path.lexists(path) for path in absent)


def absent_candidates(headers: Iterable[str], search: Sequence[str]) -> list[str]:
    """Paths where a new header would be found before one that was included: earlier on the search path.

    A header may have been included by any end of its path, so every one is looked for in each of the user's
    directories; those that exist were not in the way.
    """
    candidates = set()
    for header in headers:
        parts = header.split("/")
        for first in range(max(1, len(parts) - 3), len(parts)):
            name = "/".join(parts[first:])
            candidates |= {f"{directory}/{name}" for directory in search}
    return sorted(path for path in candidates if not os.path.lexists(path))
