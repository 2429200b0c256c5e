"""netbpf's own state: what interrupted operations left, and what waits."""

import os
import shlex
import stat

from netbpf import layout
from netbpf._sys.info import link_info
from netbpf.bpf import pin
from netbpf.errors import KernelError, NetbpfError
from netbpf.host.finding import Finding, ok, problem, warning
from netbpf.manager import mechanism
from netbpf.manager.pending_list import Waiting, waiting
from netbpf.manager.repair import alive, repair
from netbpf.manager.status import opened
from netbpf.net.netns import Namespace
from netbpf.net.rtnetlink import Session
from netbpf.state import lock, records
from netbpf.state import pending as stored
from netbpf.text import ago, escape

REPAIR = "netbpf doctor --repair"


def checks() -> list[Finding]:
    """All of them."""
    return [directory(), stale(), *changes()]


def directory() -> Finding:
    """Where the records are: a directory of root alone."""
    path = layout.state_dir()
    try:
        status = path.lstat()
    except FileNotFoundError:
        return ok("state", f"{path} is made when something is attached")
    except OSError as error:
        return problem("state", f"{path}: {error.strerror}", "netbpf keeps its records there")
    if not stat.S_ISDIR(status.st_mode):
        return problem(
            "state", f"{path} is no directory", "netbpf keeps its records there", f"rm {path}"
        )
    if status.st_uid != os.geteuid():
        return warning(
            "state", f"{path} belongs to user {status.st_uid}", "run netbpf as that user"
        )
    if status.st_mode & 0o022:
        return problem(
            "state", f"others may write to {path} (mode {stat.S_IMODE(status.st_mode):o})",
            "they could make netbpf believe in attachments that are not", f"chmod 700 {path}",
        )  # fmt: skip
    return ok("state", str(path))


def stale() -> Finding:
    """Records of programs that are gone, pins of links on nothing, changes that were killed half way."""
    found = []
    dead = [
        one
        for one in records.read_all()
        if not any(alive(generation.prog_id) for generation in one.generations)
    ]
    if dead:
        names = ", ".join(sorted({escape(one.interface) for one in dead})[:8])
        found.append(
            f"{len(dead)} {_plural('record', len(dead))} of programs that are gone ({names})"
        )
    try:
        defunct = _defunct_pins()
    except NetbpfError as error:
        return warning("leftovers", error.message, error.hint or "")
    if defunct:
        found.append(f"{defunct} {_plural('pin', defunct)} of links on interfaces that are gone")
    killed = sum(one.phase is stored.Phase.CHANGING for one in stored.read_all())
    if killed and not _idle():
        killed = 0  # it is being made this moment
    if killed:
        found.append(
            f"{killed} {_plural('change', killed)} that {'was' if killed == 1 else 'were'} killed half way"
        )
    if not found:
        return ok("leftovers", "none")
    return warning(
        "leftovers", "; ".join(found), "they count for nothing, and go with the next change", REPAIR
    )


def _plural(word: str, count: int) -> str:
    return word if count == 1 else f"{word}s"


def _idle() -> bool:
    """Whether no netbpf is changing something this moment."""
    try:
        with lock.locked(timeout=0):
            return True
    except NetbpfError:
        return False


def _defunct_pins() -> int:
    count = 0
    for path in mechanism.pins():
        try:
            link = pin.open_pin(path)
        except KernelError:
            return 0  # no permission to open any
        if link is not None:
            with link:
                count += link_info(link.fileno()).ifindex == 0
    return count


def changes() -> list[Finding]:
    """Changes that wait for their confirmation, and those that could not go back."""
    found = []
    known: Waiting = waiting(all_netns=True)
    for change in known.pending:
        places = ", ".join(f"{step.interface.name} {step.hook.value}" for step in change.steps)
        text = f"{change.what} on {escape(places)} goes back in {ago(change.left)} unless it is confirmed"
        keep = _confirm(change)
        if change.watched():
            found.append(
                warning(
                    "unconfirmed",
                    text,
                    f"{shlex.join((*keep, '--undo'))} goes back at once",
                    shlex.join(keep),
                )
            )
        else:
            found.append(
                problem(
                    "unconfirmed", f"{change.what} on {escape(places)} waits, and the process to undo it is gone",
                    f"it goes back at netbpf's next change after its time, or now; {shlex.join(keep)} keeps it",
                    shlex.join((*keep, "--undo")),
                )
            )  # fmt: skip
    for word in known.went_back:
        if word.failed:
            place = f"{escape(word.interface.name)} {word.hook.value}"
            text = f"{word.what} on {place} could not go back: {escape(word.why)}"
            found.append(problem("unconfirmed", text, escape(word.result)))
    return found or [ok("unconfirmed", "no change waits")]


def _confirm(change: stored.Pending) -> tuple[str, ...]:
    """The command that keeps a change."""
    # Each interface of an operation stands for all of it.
    names = [step.interface.name for step in change.steps][:1]
    elsewhere = ("--netns", change.netns_name) if change.netns_name else ()
    return ("netbpf", "confirm", *names, *elsewhere)


def clear(netns: str | Namespace | None = None) -> tuple[str, ...]:
    """Clear away what ``stale`` finds, with the lock held; what somebody should know of. Raises LockTimeoutError."""
    with lock.locked(), opened(netns) as namespace, Session(namespace) as session:
        return repair(session)
