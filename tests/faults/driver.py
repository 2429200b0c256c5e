"""A process that runs operations of netbpf in children and makes them fail or die at their n-th step.

Started once per test run, alone and without threads, it has everything imported and forks a child that operates:
that takes milliseconds where a fresh interpreter takes 200. A child that came through without a trace does the next
operation too, which saves it copying each page that it writes to; one that was killed, left something open or met a
traceback has been the last of its kind. Reads one JSON request per line, answers with one.

A *touch* is where an operation meets the kernel or the disk: bpf(2), netlink, and the calls on files. It is a
*change* if something can be different afterwards.
"""

import errno
import gc
import json
import os
import signal
import sys
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypedDict

from netbpf import api
from netbpf._sys import bpf as sys_bpf
from netbpf._sys import namespaces
from netbpf.bpf import pin
from netbpf.constants import Hook
from netbpf.errors import KernelError, NetbpfError
from netbpf.net.rtnetlink import Session

_CHANGES = frozenset(
    "MAP_CREATE PROG_LOAD BTF_LOAD OBJ_PIN PROG_ATTACH PROG_DETACH LINK_CREATE LINK_UPDATE LINK_DETACH".split()
)
_KINDS = {"PROG_LOAD": "PROG", "MAP_CREATE": "MAP", "LINK_CREATE": "LINK"}


class Fault(TypedDict, total=False):
    """What goes wrong: ``kind`` at touch number ``at`` (from 0), or if ``changes`` at that change.

    kill: SIGKILL directly after it. signal: SIGINT directly after it. kernel: bpf(2) or netlink fails with ``errno``
    instead. lost: netlink does it and then fails. disk: a call on a file fails with ``errno`` instead.
    """

    kind: str
    at: int
    errno: int


class Answer(TypedDict):
    """What came of it. ``signal`` is what ended the child; ``made`` the ids of what it made in the kernel."""

    signal: int
    error: str | None
    exit_code: int
    message: str
    touches: list[str]
    made: list[tuple[str, int]]
    leaked: list[str]
    hit: bool


class Faulty:
    """Stands between netbpf and what it calls; writes what happens to a file in memory, which outlives SIGKILL.

    Not to a pipe: its reader would be woken at each word.
    """

    def __init__(self, out: int) -> None:
        self.out = out
        self.expect({})

    def expect(self, fault: Fault) -> None:
        """What goes wrong in the next operation."""
        self.fault = fault
        self.counts: dict[str, int] = {}

    def tell(self, *words: object) -> None:
        os.write(self.out, (json.dumps(words) + "\n").encode())

    def touch(self, family: str, name: str, changes: bool, call: Callable[[], Any]) -> Any:
        """One touch of a family (bpf, netlink, file), with the fault if it is its turn."""
        kind = self.fault.get("kind", "none")
        counts = {
            "kill": changes,
            "signal": True,
            "kernel": family in ("bpf", "netlink"),
            "disk": family == "file",
            "lost": family == "netlink",
        }.get(kind, False)
        number = self.counts.get(kind, 0)
        due = counts and number == self.fault.get("at", -1)
        self.counts[kind] = number + counts
        if counts:
            self.tell("touch", name)
        if due:
            self.tell("hit")
            if kind in ("kernel", "disk"):
                return self.fail(family, name)
        try:
            result = call()
        finally:
            if due and kind == "kill":
                os.kill(os.getpid(), signal.SIGKILL)
            if due and kind == "signal":
                signal.raise_signal(signal.SIGINT)
        if due and kind == "lost":
            raise KernelError(name, errno.ENOBUFS, "the kernel's answer was lost")
        return result

    def fail(self, family: str, name: str) -> int:
        number = self.fault["errno"]
        if family == "file":
            raise OSError(number, os.strerror(number), name)
        if family == "netlink":
            raise KernelError(name, number)
        return -number

    # --- the doors ---

    def install(self) -> None:
        self.wrap_bpf()
        for name in ("request", "get", "dump"):
            self.wrap_netlink(name)
        for name in ("open", "rename", "unlink", "mkdir"):
            self.wrap_file(name)
        real = namespaces.mount
        pin.mount = lambda *a, **k: self.touch("bpf", "mount", True, lambda: real(*a, **k))  # type: ignore[attr-defined]

    def wrap_bpf(self) -> None:
        real = sys_bpf._syscall

        def syscall(command: int, attr: sys_bpf.Buffer) -> int:
            name = sys_bpf._COMMANDS[command]

            def call() -> int:
                result = real(command, attr)
                if result >= 0 and name in _KINDS:
                    self.note(_KINDS[name], result)
                return result

            return int(self.touch("bpf", name, name in _CHANGES, call))

        sys_bpf._syscall = syscall

    def note(self, kind: str, fd: int) -> None:
        # The id stands first in the information of a map, program or link, behind the type.
        with open(f"/proc/self/fdinfo/{fd}") as lines:
            words = dict(line.split(":", 1) for line in lines if ":" in line)
        self.tell(
            "made", kind, int(words[{"PROG": "prog_id", "MAP": "map_id", "LINK": "link_id"}[kind]])
        )

    def wrap_netlink(self, name: str) -> None:
        real = getattr(Session, name)

        def call(session: Session, what: str, *rest: Any) -> Any:
            changes = name == "request"
            family = "netlink" if changes else "question"
            return self.touch(family, what, changes, lambda: real(session, what, *rest))

        setattr(Session, name, call)

    def wrap_file(self, name: str) -> None:
        real = getattr(os, name)

        def call(path: Any, *rest: Any, **named: Any) -> Any:
            flags = rest[0] if name == "open" and rest else 0
            inside = str(path).startswith(os.environ["NETBPF_STATE_DIR"])
            if not inside or (name == "open" and not flags & os.O_CREAT):
                return real(path, *rest, **named)
            words = f"{name} {Path(path).name.split('.')[-1] if name == 'open' else ''}".strip()
            return self.touch("file", words, True, lambda: real(path, *rest, **named))

        setattr(os, name, call)


def operate(request: dict[str, Any]) -> None:
    options = request["options"]
    for name in ("hook", "hooks"):
        if isinstance(options.get(name), list):
            options[name] = tuple(map(Hook, options[name]))
    result = getattr(api, request["call"])(*request["arguments"], **options)
    if request["call"] == "attach":
        result.close()


def child(request: dict[str, Any], faulty: Faulty) -> bool:
    """One operation; whether nothing is left of it in this process."""
    os.environ["NETBPF_STATE_DIR"] = request["state"]
    before = descriptors()
    faulty.expect(request["fault"])
    clean = True
    try:
        operate(request)
    except NetbpfError as error:
        faulty.tell("error", type(error).__name__, int(error.exit_code), error.message)
    except KeyboardInterrupt:
        faulty.tell("error", "KeyboardInterrupt", 130, "")
    except BaseException:  # noqa: BLE001 - it is the finding
        faulty.tell("error", "Traceback", -1, traceback.format_exc())
        clean = False
    left = sorted(descriptors() - before)
    faulty.tell("left", left)
    return clean and not left


def descriptors() -> set[str]:
    found = set()
    for name in os.listdir("/proc/self/fd"):
        try:
            found.add(f"{name} {Path(f'/proc/self/fd/{name}').readlink()}")
        except OSError:
            continue  # the one that listed them
    return found


class Child:
    """A child as its parent sees it: what it is told, and what it tells in a file that outlives it."""

    def __init__(self) -> None:
        self.report = os.memfd_create("report")
        theirs, self.requests = os.pipe()
        self.done, over = os.pipe()
        self.pid = os.fork()
        if not self.pid:
            try:
                # The only writer of the one and reader of the other: its end is seen by both sides.
                os.close(self.requests)
                os.close(self.done)
                self.live(theirs, over)
            finally:
                os._exit(0)
        os.close(theirs)
        os.close(over)

    def live(self, requests: int, over: int) -> None:
        faulty = Faulty(self.report)
        faulty.install()
        with open(requests) as lines:
            for line in lines:
                going_on = child(json.loads(line), faulty)
                os.write(over, b"+" if going_on else b"-")
                if not going_on:
                    return
                gc.collect()  # only now: what a cycle kept open was to be seen

    def ask(self, request: dict[str, Any]) -> tuple[list[list[Any]], int, bool]:
        """What it told of an operation, the signal that ended it, and whether it goes on."""
        os.ftruncate(self.report, 0)
        os.lseek(self.report, 0, os.SEEK_SET)
        os.write(self.requests, (json.dumps(request) + "\n").encode())
        going_on = os.read(self.done, 1) == b"+"
        status = 0 if going_on else os.waitpid(self.pid, 0)[1]
        os.lseek(self.report, 0, os.SEEK_SET)
        with open(self.report, closefd=False) as lines:
            told = [json.loads(line) for line in lines]
        return told, os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0, going_on

    def close(self) -> None:
        for fd in (self.requests, self.done, self.report):
            os.close(fd)


def run(request: dict[str, Any], there: Child | None) -> tuple[Answer, Child | None]:
    """The operation, in the child that is there or in a new one; the one that goes on."""
    one = there or Child()
    told, ended_by, going_on = one.ask(request)
    if not going_on:
        one.close()
    error = next((one for one in told if one[0] == "error"), None)
    answer = Answer(
        signal=ended_by,
        error=error[1] if error else None,
        exit_code=error[2] if error else 0,
        message=error[3] if error else "",
        touches=[one[1] for one in told if one[0] == "touch"],
        made=[(one[1], one[2]) for one in told if one[0] == "made"],
        leaked=[one for words in told if words[0] == "left" for one in words[1]],
        hit=any(one[0] == "hit" for one in told),
    )
    return answer, one if going_on else None


def main(_: Sequence[str]) -> None:
    import pyroute2.netlink.rtnl.ifinfmsg
    import pyroute2.netlink.rtnl.tcmsg  # noqa: F401 - imported for the children

    # The first use of everything, so that children import nothing.
    from netbpf.manager import attach, chain, detach, rebuild, upgrade  # noqa: F401
    from netbpf.net import interfaces  # noqa: F401

    # Every page that a child writes to is copied, and its collector would write to all of them.
    gc.collect()
    gc.freeze()
    gc.disable()
    going_on: Child | None = None
    for line in sys.stdin:
        answer, going_on = run(json.loads(line), going_on)
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()
    if going_on:
        going_on.close()
        os.waitpid(going_on.pid, 0)


if __name__ == "__main__":
    main(sys.argv)
