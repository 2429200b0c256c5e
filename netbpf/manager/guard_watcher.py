"""The process that undoes an unconfirmed change, as seen from the command that starts it.

Before anything is changed that process is ready (``netbpf.manager.watcher``). It holds the programs that are taken
off, and the namespace, so that the way back does not depend on this process.
"""

import json
import os
import select
import time
from contextlib import suppress
from typing import Final, Self

from netbpf.bpf.program import Program
from netbpf.errors import NetbpfError
from netbpf.manager.standby import Standby, StandbyError
from netbpf.net.netns import Namespace, names
from netbpf.net.rtnetlink import Session
from netbpf.state import pending as store
from netbpf.state.pending import Pending, Phase

_START: Final = 20.0  # seconds for the watcher to be ready, on a machine that is busy
_ANSWER: Final = 10.0


class Watcher:
    """The process that undoes it, as seen from here. As a context manager; it goes on afterwards if it watches."""

    def __init__(self, seconds: float, namespace: Namespace) -> None:
        self.seconds = seconds
        self._namespace = namespace
        self._watching = False
        self._pid = self._started = 0

    def __enter__(self) -> Self:
        try:
            self._process = Standby("netbpf.manager.watcher", self._namespace)
        except StandbyError as error:
            raise _failed(str(error)) from None
        return self

    def ready(self) -> None:
        """Wait until it is ready: it starts while programs are loaded. NetbpfError where it cannot be had."""
        if self._pid:
            return
        try:
            self._pid, self._started = json.loads(self._answer(_START))
        except (ValueError, NetbpfError) as error:
            raise _failed(self._process.complaint() or str(error)) from None

    def __exit__(self, *_: object) -> None:
        with self._process:
            # Where something is left to undo it sees the end of this connection, and does it.
            if not self._watching:
                self._cancel()

    def _cancel(self) -> None:
        with suppress(OSError, NetbpfError):
            self.ready()
            if store.read(self.name) is None:
                process = os.pidfd_open(self._pid)
                try:
                    self._process.send(b"cancel")
                    # It ends at once: nothing of it is left when the command ends.
                    select.select([process], [], [], _ANSWER)
                finally:
                    os.close(process)

    @property
    def name(self) -> str:
        """The name of its pending file."""
        return f"{self._pid}-{self._started}"

    def pending(self, what: str, session: Session) -> Pending:
        """The change as it begins."""
        self.ready()
        namespace = session.namespace
        name = namespace.name or names().get(namespace.inode)
        return Pending(
            what, Phase.CHANGING, namespace.inode, session.cookie(), name, self.seconds, 0.0, time.time(),
            self._pid, self._started, (),
        )  # fmt: skip

    def hold(self, program: Program) -> None:
        """Have it keep a program."""
        self.ready()
        self._ask(b"hold", [program.fd.fileno()])

    def watch(self) -> None:
        """Have it wait for the deadline of its pending file."""
        self._ask(b"watch", [])
        self._watching = True

    def _ask(self, word: bytes, fds: list[int]) -> None:
        try:
            self._process.send(word, fds)
        except OSError:
            raise _ended() from None
        if self._answer(_ANSWER) != b"done":
            raise _ended()

    def _answer(self, seconds: float) -> bytes:
        try:
            said = self._process.answer(seconds)
        except TimeoutError:
            raise NetbpfError(
                "the process that waits for the confirmation does not answer"
            ) from None
        if not said:
            raise _ended()
        return said


def _failed(reason: str) -> NetbpfError:
    return NetbpfError(
        f"cannot start the process that waits for the confirmation: {reason}",
        hint="nothing was changed; without --confirm no such process is needed",
    )


def _ended() -> NetbpfError:
    return NetbpfError(
        "the process that waits for the confirmation has ended",
        hint="was it killed? the change was not made, or was undone",
    )
