"""Which program, map or link is meant: by id, name, tag or pin."""

import errno
import re
import stat
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, TypeVar

from netbpf._sys import bpf as sys_bpf
from netbpf._sys.capabilities import Capability, permission_error
from netbpf._sys.describe import kind_of
from netbpf._sys.fd import Fd
from netbpf.bpf.pin import is_bpffs
from netbpf.errors import KernelError, NetbpfError, NotAttachedError, ObjectError, UsageError
from netbpf.text import escape

T = TypeVar("T")
_TAG = re.compile(r"[0-9a-f]{16}")


class Wanted(NamedTuple):
    """What was asked for; all None: everything."""

    id: int | None = None
    name: str | None = None
    tag: str | None = None
    path: Path | None = None

    @property
    def everything(self) -> bool:
        """Whether nothing in particular was asked for."""
        return self == Wanted()

    def fits(self, number: int, name: str, tag: str = "") -> bool:
        """Whether one with these is meant. The kernel keeps 15 characters of a name, so longer ones are cut."""
        if self.name is not None:
            return name == self.name or (len(self.name) > 15 and name == self.name[:15])
        return self.id in (None, number) and self.tag in (None, tag)

    def __str__(self) -> str:
        if self.path is not None:
            return f"pinned as {escape(str(self.path))}"
        if self.tag is not None:
            return f"with the tag {self.tag}"
        return str(self.id) if self.id is not None else f"'{escape(self.name or '')}'"

    def only(self, found: Sequence[T], kind: str, ids: Sequence[str]) -> T:
        """The one of what was found; all others are closed. UsageError where there are several."""
        if len(found) == 1:
            return found[0]
        for one in found:
            one.close()  # type: ignore[attr-defined]
        shown = ", ".join(ids[:12]) + (", ..." if len(ids) > 12 else "")
        raise UsageError(
            f"there are {len(found)} {kind}s {self}: ids {shown}", hint="say which by its id"
        )


def parse(words: Sequence[str]) -> Wanted:
    """``17``, ``NAME``, ``f00dcafe01234567`` (a tag), ``/sys/fs/bpf/pin``; with bpftool's word before it: ``name 17``.

    UsageError for more words than that.
    """
    if not words:
        return Wanted()
    kind, rest = "", list(words)
    if len(words) == 2 and words[0] in ("id", "name", "tag", "pinned"):
        kind, rest = words[0], rest[1:]
    if len(rest) != 1:
        raise UsageError(
            f"one thing at a time: {' '.join(map(escape, words))} are several",
            hint="an id, a name, a tag, or the path of a pin",
        )
    text = rest[0]
    if kind == "id" and not text.isdecimal():
        raise UsageError(f"{escape(text)!r} is no id")
    if kind == "tag" and not _TAG.fullmatch(text):
        raise UsageError(f"{escape(text)!r} is no tag: it has 16 hex digits")
    if kind == "id" or (not kind and text.isascii() and text.isdecimal()):
        return Wanted(id=int(text))
    if kind == "pinned" or (not kind and "/" in text):
        return Wanted(path=Path(text))
    if kind == "tag" or (not kind and _TAG.fullmatch(text)):
        return Wanted(tag=text)
    return Wanted(name=text)


def by_pin(path: Path, kind: str) -> Fd:
    """The pinned program, map or link. A symbolic link is not followed: it may lead anywhere.

    Raises NotAttachedError where there is none, NetbpfError for a symbolic link, ObjectError for something else.
    """
    shown = escape(str(path))
    try:
        status = path.lstat()
    except (OSError, ValueError) as error:
        words = error.strerror if isinstance(error, OSError) else "no path"
        raise NotAttachedError(f"there is no pin {shown}: {words}") from None
    if stat.S_ISLNK(status.st_mode):
        target = escape(str(path.readlink()))
        raise NetbpfError(
            f"the pin {shown} is a symbolic link to {target}", hint=f"name its target if you trust it: {target}"
        )  # fmt: skip
    if not is_bpffs(path) or not stat.S_ISREG(status.st_mode):
        what = "a directory" if stat.S_ISDIR(status.st_mode) else "no pin: it is not in a bpffs"
        raise ObjectError(f"{shown} is {what}")
    try:
        fd = sys_bpf.obj_get(str(path))
    except KernelError as error:
        if error.errno == errno.ENOENT:
            raise NotAttachedError(f"there is no pin {shown} any more") from None
        if error.errno in (errno.EPERM, errno.EACCES):
            raise permission_error(f"open the pin {shown}", Capability.BPF) from None
        raise
    found = kind_of(fd.fileno())
    if found != kind:
        fd.close()
        raise ObjectError(f"the pin {shown} is a {found or 'thing of another kind'}, not a {kind}")
    return fd
