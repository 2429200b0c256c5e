"""The process that takes a capture off its hook when its reader is killed: ``python -m netbpf.tap.watcher SOCKET NS``.

It is ready before the hook is changed, and holds the program that ran there before, so that this very program can come
back. It ends with a word, or with the connection: then it does what the reader could not.
"""

import json
import os
import signal
import socket
import sys
import syslog
from contextlib import suppress
from pathlib import Path

from netbpf._sys.fd import Fd
from netbpf.errors import LockTimeoutError, NetbpfError
from netbpf.manager import taps
from netbpf.manager.watcher import leave_session
from netbpf.net.netns import Namespace
from netbpf.net.rtnetlink import Session
from netbpf.state import taps as lives
from netbpf.state.codec import revive
from netbpf.state.lock import locked

_IGNORED = (
    signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGPIPE, signal.SIGTSTP, signal.SIGTTIN, signal.SIGTTOU,
)  # fmt: skip


def main(arguments: list[str]) -> None:
    """Watch over one capture. Descriptors are given by number."""
    if os.fork():
        os._exit(0)  # the starter waits for this one, and process 1 for the other
    for number in _IGNORED:
        signal.signal(number, signal.SIG_IGN)
    syslog.openlog("netbpf", syslog.LOG_PID, syslog.LOG_DAEMON)
    reader = socket.socket(fileno=int(arguments[0]))
    namespace = Namespace(Fd(int(arguments[1])))
    for one in (reader.fileno(), namespace.fileno()):
        os.set_inheritable(one, False)
    leave_session(Path("/proc/self/cgroup").read_text())
    _serve(reader, namespace)


def _serve(reader: socket.socket, namespace: Namespace) -> None:
    at: taps.Spot | None = None
    name, held, tapped = "", list[int](), set[int]()
    while True:
        try:
            word, fds, _, _ = socket.recv_fds(reader, 65536, 4)
        except OSError:
            word, fds = b"", []
        held += fds
        if not word:
            break
        said = json.loads(word)
        if said is None:
            return
        if "at" in said:
            at, name = revive(taps.Spot, said["at"]), said["name"]
            with suppress(OSError):
                reader.send(b"done")
        else:
            tapped.add(said["tapped"])
    if at is not None:
        _take_off(namespace, at, name, frozenset(tapped))


def _take_off(namespace: Namespace, at: taps.Spot, name: str, tapped: frozenset[int]) -> None:
    while True:
        try:
            with locked(), Session(namespace) as session:
                if taps.end(session, at, name, tapped):
                    lives.forget(name)
            return
        except LockTimeoutError:
            continue
        except NetbpfError as error:
            # The next command tries again.
            syslog.syslog(syslog.LOG_WARNING, f"a capture could not be taken away: {error.message}")
            return


if __name__ == "__main__":
    main(sys.argv[1:])
