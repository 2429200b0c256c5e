"""A process that is started before a change and outlives this one, to undo the change should this one be killed."""

import os
import select
import socket
import subprocess
import sys
from pathlib import Path
from typing import Self

from netbpf.net.netns import Namespace


class StandbyError(Exception):
    """It cannot be started, or has ended; the reason."""


class Standby:
    """The process, and a connection to it. As a context manager.

    ``module`` is run with the descriptors of its end of the connection and of the namespace. It sees the end of the
    connection when this process ends, however that ends. StandbyError where it cannot be started.
    """

    def __init__(self, module: str, namespace: Namespace) -> None:
        if not sys.executable:
            raise StandbyError("this Python does not know its own program")
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._errors = os.memfd_create("netbpf-standby-errors", os.MFD_CLOEXEC)
        fds = (theirs.fileno(), namespace.fileno())
        try:
            # It takes nothing along but where to find netbpf, and its state: no session, terminal or directory.
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", module, *map(str, fds)],
                stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=self._errors, pass_fds=fds,
                cwd="/", env=_environment(), start_new_session=True,
            )  # fmt: skip
        except OSError as error:
            self._let_go()
            raise StandbyError(str(error)) from None
        finally:
            theirs.close()

    def send(self, message: bytes, fds: list[int] | None = None) -> None:
        """Say something, with descriptors. OSError where it has ended."""
        socket.send_fds(self._socket, [message], fds or [])

    def answer(self, seconds: float) -> bytes:
        """What it says; nothing where it has ended. TimeoutError where it says nothing for so long."""
        if not select.select([self._socket], [], [], seconds)[0]:
            raise TimeoutError("it does not answer")
        try:
            return self._socket.recv(4096)
        except OSError:
            return b""

    def complaint(self) -> str:
        """The last line that it wrote to its standard error."""
        lines = os.pread(self._errors, 65536, 0).decode(errors="replace").strip().splitlines()
        return lines[-1] if lines else ""

    def close(self) -> None:
        """End the connection."""
        self._let_go()
        # What was started has forked, and its child belongs to process 1: nobody has to wait for that.
        self._process.wait()

    def _let_go(self) -> None:
        self._socket.close()
        os.close(self._errors)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _environment() -> dict[str, str]:
    here = str(Path(__file__).parents[2])
    paths = [here, *(one for one in sys.path if one and Path(one).is_absolute() and one != here)]
    kept = ("NETBPF_STATE_DIR", "PYTHONDONTWRITEBYTECODE", "TZ")
    found = {name: os.environ[name] for name in kept if name in os.environ}
    if "NETBPF_STATE_DIR" in found:
        found["NETBPF_STATE_DIR"] = str(Path(found["NETBPF_STATE_DIR"]).absolute())
    return {
        **found,
        "PYTHONPATH": os.pathsep.join(paths),
        "PATH": os.environ.get("PATH", os.defpath),
    }
