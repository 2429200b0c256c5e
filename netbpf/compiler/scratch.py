"""A private directory for what a compiler writes.

The standard library's tempfile does the same, and costs every compilation 10 ms: it imports random, and that OpenSSL.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from netbpf.errors import NetbpfError


@contextmanager
def scratch_directory() -> Iterator[Path]:
    """A directory that only we can enter (0700), below TMPDIR or /tmp; removed with the files in it.

    Its name cannot be guessed, and one that is taken is never used. Raises NetbpfError where it cannot be made.
    """
    path = Path(os.environ.get("TMPDIR") or "/tmp", f"netbpf-{os.urandom(8).hex()}")
    try:
        path.mkdir(mode=0o700)
    except OSError as error:
        raise NetbpfError(
            f"cannot create {path}: {error.strerror}", hint="set TMPDIR to a directory that exists"
        ) from None
    try:
        yield path
    finally:
        for name in os.listdir(path):
            with suppress(OSError):
                (path / name).unlink()
        path.rmdir()
