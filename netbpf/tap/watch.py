"""The process that takes a capture off the hook should the one that reads it be killed, as seen from that one."""

import json
import os
import select
import socket
import subprocess
import sys
from contextlib import suppress
from types import TracebackType
from typing import Final, Self

from netbpf.bpf.program import Program
from netbpf.errors import NetbpfError
from netbpf.manager.guard_watcher import environment
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
        if not sys.executable:
            raise _failed("this Python does not know its own program")
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._errors = os.memfd_create("netbpf-watch-errors", os.MFD_CLOEXEC)
        fds = (theirs.fileno(), self._namespace.fileno())
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", "netbpf.tap.watcher", *map(str, fds)],
                stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=self._errors, pass_fds=fds,
                cwd="/", env=environment(), start_new_session=True,
            )  # fmt: skip
        except OSError as error:
            self._socket.close()
            os.close(self._errors)
            raise _failed(str(error)) from None
        finally:
            theirs.close()
        return self

    def guard(self, at: Spot, name: str, before: Program | None) -> None:
        """From now on it takes a capture away when this process ends. It keeps the program of before.

        NetbpfError where the process cannot be had.
        """
        fds = [before.fd.fileno()] if before else []
        message = json.dumps({"at": plain(at), "name": name}).encode()
        try:
            socket.send_fds(self._socket, [message], fds)
            if not select.select([self._socket], [], [], _START)[0]:
                raise _failed("it does not answer")
            answer = self._socket.recv(64)
        except OSError as error:
            answer = str(error).encode()
        if answer != b"done":
            said = os.pread(self._errors, 65536, 0).decode(errors="replace").strip().splitlines()
            raise _failed(said[-1] if said else answer.decode() or "it ended")

    def tapped(self, prog_id: int) -> None:
        """Tell it of a program that has the capture in it."""
        if prog_id not in self._seen:
            self._seen.add(prog_id)
            with suppress(OSError):  # should it have been killed, the capture goes on without
                self._socket.send(json.dumps({"tapped": prog_id}).encode())

    def done(self) -> None:
        """Nothing is left to do."""
        with suppress(OSError):
            self._socket.send(b"null")

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._socket.close()
        os.close(self._errors)
        # What was started has forked, and its child belongs to process 1: nobody has to wait for that.
        self._process.wait()


def _failed(reason: str) -> NetbpfError:
    return NetbpfError(
        f"cannot start the process that takes a capture away should this one be killed: {reason}",
        hint="nothing was changed",
    )
