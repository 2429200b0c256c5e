"""The process that undoes a change unless it is confirmed: ``python -m netbpf.manager.watcher SOCKET NAMESPACE``.

It is ready before anything is changed, and shares nothing with who started it: session, terminal, directory, and
(where systemd runs the machine) the control group that is killed at the end of the session. It holds the programs
that were taken off, so these and their maps live on, and waits on CLOCK_BOOTTIME, which counts suspended time.

It ends without a word if the change is confirmed, and goes back

- at the deadline, once it has the lock;
- at once if the command that started it dies before the change is complete;
- at once on SIGTERM: what is told to end must not leave an unconfirmed change behind.
"""

import json
import os
import select
import signal
import socket
import sys
import syslog
import traceback
from contextlib import ExitStack, suppress
from pathlib import Path
from types import TracebackType
from typing import Final, NoReturn

from netbpf import layout
from netbpf._sys import waiting
from netbpf._sys.fd import Fd
from netbpf.errors import KernelError, LockTimeoutError, NetbpfError
from netbpf.manager.pending import ASKED, finish, go_back, in_words, transient, unconfirmed
from netbpf.manager.repair import repair
from netbpf.net.netns import Namespace
from netbpf.net.rtnetlink import Session
from netbpf.state import pending as store
from netbpf.state import records
from netbpf.state.files import read_small
from netbpf.state.lock import locked
from netbpf.state.pending import Pending, Phase, WentBack

_EVENTS: Final = waiting.IN_MOVED_TO | waiting.IN_MOVED_FROM | waiting.IN_DELETE
_TRIES: Final = (0.0, 0.1, 0.5, 1.0, 2.0, 5.0)  # seconds before each attempt to go back
_LOCK_PAUSE: Final = 0.05  # seconds after which the wait for the lock looks at the file again
_QUIET: Final = 0.2  # seconds; who empties a directory is not to find it filled meanwhile
_LONGEST_PAUSE: Final = 10.0  # seconds between attempts to write where that fails
_MOST_OBJECT: Final = 1 << 30  # bytes


class Watching:
    """One change, from before it is made until it is confirmed or undone."""

    def __init__(self, starter: socket.socket, namespace: Namespace) -> None:
        self.starter, self.namespace = starter, namespace
        self.name = f"{os.getpid()}-{store.start_time(os.getpid())}"
        self.directory = layout.pending_file(self.name).parent
        self.held: list[Fd] = []
        self.objects: dict[str, bytes] = {}
        self.pending: Pending | None = None
        self.asked = False
        self.events = waiting.inotify()
        self.told: int = _told_to_end()

    # --- while the command runs ---

    def serve(self) -> str | None:
        """Keep what the command sends; why to go back at once, None to wait for the deadline."""
        while True:
            ready, _, _ = select.select([self.starter.fileno(), self.told], [], [])
            if self.told in ready:
                return self._at_once("the process that waits for the confirmation was told to end")
            try:
                word, fds, _, _ = socket.recv_fds(self.starter, 64, 16)
            except OSError:
                word, fds = b"", []
            self.held += [Fd(one) for one in fds]
            if word == b"cancel":
                _end()
            if word == b"watch":
                self._remember()
                self._answer()
                return None
            if not word:
                return self._at_once("netbpf was killed before it was done")
            self._answer()

    def _answer(self) -> None:
        with suppress(OSError):  # its death is seen when reading
            self.starter.send(b"done")

    def _at_once(self, why: str) -> str | None:
        """The command is dead, or has to be: what it wrote last is what it did."""
        self._await_lock_of_starter()
        found = self._end_if_told()
        if found is None:
            _end()  # nothing was changed, or it was undone
        if found.phase is Phase.WAITING and why.startswith("netbpf was killed"):
            self._remember()
            return None
        self.pending = found
        return why

    def _await_lock_of_starter(self) -> None:
        """What it wrote is final once its lock is free."""
        while True:
            try:
                with locked(_LOCK_PAUSE):
                    return
            except LockTimeoutError:
                self._end_if_told()
            except NetbpfError:
                return  # no lock can be had here at all

    def _remember(self) -> None:
        """Take everything into memory that going back needs: /run may be emptied."""
        self.pending = store.read(self.name)
        if self.pending is None:
            raise NetbpfError("the pending change cannot be read")
        for step in self.pending.steps:
            for record in (step.record,) if step.record else ():
                for sha256 in records.files_of(record):
                    data = read_small(layout.object_file(sha256), _MOST_OBJECT)
                    if data is not None:
                        self.objects[sha256] = data

    # --- while it waits ---

    def wait(self) -> str:
        """Until the deadline; why to go back. Ends the process if the change is confirmed before."""
        assert self.pending is not None
        self._watch_directory()
        with waiting.boottime_timer(self.pending.deadline) as timer:
            sources = [timer.fileno(), self.events.fileno(), self.told]
            pause = _QUIET
            while True:
                missing = self._missing()
                if self.asked:
                    return ASKED
                ready, _, _ = select.select(sources, [], [], pause if missing else None)
                if self.told in ready:
                    return "the process that waits for the confirmation was told to end"
                if timer.fileno() in ready:
                    return unconfirmed(self.pending)
                if missing and not ready:
                    # Nobody has removed anything for a moment: it is written again.
                    try:
                        store.write(self.pending)
                        pause = _QUIET
                    except NetbpfError:
                        pause = min(pause * 2, _LONGEST_PAUSE)
                waiting.drain(self.events.fileno())
                self._watch_directory()

    def _missing(self) -> bool:
        """Whether somebody removed the file; if it says that nothing is left to do, the process ends.

        Somebody who goes back at once (``confirm --undo``) brings the deadline forward.
        """
        assert self.pending is not None
        found = self._end_if_told()
        self.asked = found is not None and found.deadline < self.pending.deadline
        return found is None

    def _end_if_told(self) -> Pending | None:
        """What the file says; if that is that nothing is left to do, the process ends."""
        found = store.read(self.name)
        if found is not None and found.phase is Phase.ENDED:
            store.remove(found)
            _end()
        return found

    def _watch_directory(self) -> None:
        """Watch the directory of the file, which may be another one than before, or none for a moment."""
        with suppress(KernelError):
            waiting.inotify_directory(self.events.fileno(), str(self.directory), _EVENTS)

    # --- going back ---

    def undo(self, why: str) -> None:
        """Go back, with the lock; without it where none can be had, for nobody may be locked out by a full disk."""
        with ExitStack() as stack:
            while True:
                try:
                    stack.enter_context(locked(_LOCK_PAUSE))
                    break
                except LockTimeoutError:
                    self._missing()
                except NetbpfError as error:
                    _say(f"cannot lock: {error.message}")
                    break
            # Whoever had the lock before may have confirmed it, or gone back.
            self._missing()
            self._undo_locked(why)

    def _undo_locked(self, why: str) -> None:
        assert self.pending is not None
        for sha256, data in self.objects.items():
            with suppress(NetbpfError):
                records.keep_object(sha256, data)
        with Session(self.namespace) as session:
            words: list[WentBack] = []
            for pause in _TRIES:
                select.select([], [], [], pause)
                words = go_back(session, self.pending, why)
                if not transient(words):
                    break
            for one in words:
                _say(in_words(one))
            try:
                finish(self.pending, words)
            except NetbpfError as error:
                _say(error.message)
                store.remove(self.pending)
            with suppress(NetbpfError):
                repair(session)


def _told_to_end() -> int:
    """A descriptor that is readable once SIGTERM came; what a terminal or a session sends is ignored."""
    for number in (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGPIPE, signal.SIGTSTP,
                   signal.SIGTTIN, signal.SIGTTOU, signal.SIGUSR1, signal.SIGUSR2):  # fmt: skip
        signal.signal(number, signal.SIG_IGN)
    reader, writer = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    signal.signal(signal.SIGTERM, lambda *_: None)
    signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    return reader


def leave_session(cgroups: str, mounted: Path = Path("/sys/fs/cgroup")) -> None:
    """Move out of the control group of a systemd unit, which is killed when the unit ends (KillUserProcesses=).

    ``cgroups`` is the content of /proc/self/cgroup. The root of a hierarchy takes processes always (man 7 cgroups,
    "no internal processes"). Best effort: a container may not allow it.
    """
    for line in cgroups.splitlines():
        _, controllers, path = line.split(":", 2)
        if not any(part.endswith((".scope", ".service")) for part in path.split("/")):
            continue
        for root in _roots(controllers, mounted):
            with suppress(OSError):
                (root / "cgroup.procs").write_text(str(os.getpid()))
                break


def _roots(controllers: str, mounted: Path) -> list[Path]:
    """Where the hierarchy of a line of /proc/self/cgroup is mounted: version 2, or one of version 1."""
    if not controllers:
        return [mounted, mounted / "unified"]
    return [mounted / controllers.removeprefix("name=")]


def _end() -> NoReturn:
    """At once: who confirms waits for it."""
    os._exit(0)


def _say(text: str) -> None:
    """To the system log, where there is one: nobody else is here to read it."""
    syslog.syslog(syslog.LOG_WARNING, text)


def _fail(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    for line in traceback.format_exception(kind, error, trace):
        _say(line.rstrip())
    sys.__excepthook__(kind, error, trace)


def main(arguments: list[str]) -> None:
    """Watch one change. Descriptors and the starting process are given by number."""
    if os.fork():
        os._exit(0)  # the starter waits for this one, and process 1 for the other
    syslog.openlog("netbpf", syslog.LOG_PID, syslog.LOG_DAEMON)
    sys.excepthook = _fail
    starter = socket.socket(fileno=int(arguments[0]))
    namespace = Namespace(Fd(int(arguments[1])))
    for one in (starter.fileno(), namespace.fileno()):
        os.set_inheritable(one, False)
    leave_session(Path("/proc/self/cgroup").read_text())
    with suppress(OSError):  # the last to be killed for memory, where that is allowed
        Path("/proc/self/oom_score_adj").write_text("-1000")
    watching = Watching(starter, namespace)
    starter.send(json.dumps([os.getpid(), store.start_time(os.getpid())]).encode())
    why = watching.serve()
    starter.close()
    _forget_output()
    if why is None:
        why = watching.wait()
    watching.undo(why)


def _forget_output() -> None:
    """Errors went to the starter until now."""
    null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
    os.dup2(null, sys.stderr.fileno())
    os.close(null)


if __name__ == "__main__":
    main(sys.argv[1:])
