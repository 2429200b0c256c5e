"""The process that takes a capture off the hook should the one that reads it be killed, as seen from that one."""

import json
from contextlib import suppress
from typing import Final, Self

from netbpf.bpf.program import Program
from netbpf.errors import NetbpfError
from netbpf.manager.standby import Standby, StandbyError
from netbpf.manager.taps import Spot
from netbpf.net.netns import Namespace
from netbpf.state.codec import plain

_START: Final = 20.0  # seconds for it to be ready, on a machine that is busy


class Watch:
    """The watching process. As a context manager; it ends with this one, however that ends."""

    def __init__(self, namespace: Namespace) -> None:
        self._namespace = namespace
        self._seen: set[int] = set()

    def __enter__(self) -> Self:
        try:
            self._process = Standby("netbpf.tap.watcher", self._namespace)
        except StandbyError as error:
            raise _failed(str(error)) from None
        return self

    def guard(self, at: Spot, name: str, before: Program | None) -> None:
        """From now on it takes a capture away when this process ends. It keeps the program of before.

        NetbpfError where the process cannot be had.
        """
        fds = [before.fd.fileno()] if before else []
        message = json.dumps({"at": plain(at), "name": name}).encode()
        try:
            self._process.send(message, fds)
            answer = self._process.answer(_START)
        except OSError as error:
            answer = str(error).encode()
        if answer != b"done":
            raise _failed(self._process.complaint() or answer.decode() or "it ended")

    def tapped(self, prog_id: int) -> None:
        """Tell it of a program that has the capture in it."""
        if prog_id not in self._seen:
            self._seen.add(prog_id)
            with suppress(OSError):  # should it have been killed, the capture goes on without
                self._process.send(json.dumps({"tapped": prog_id}).encode())

    def done(self) -> None:
        """Nothing is left to do."""
        with suppress(OSError):
            self._process.send(b"null")

    def __exit__(self, *_: object) -> None:
        self._process.close()


def _failed(reason: str) -> NetbpfError:
    return NetbpfError(
        f"cannot start the process that takes a capture away should this one be killed: {reason}",
        hint="nothing was changed",
    )
