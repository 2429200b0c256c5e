"""TCX: TC programs as bpf_links, without a qdisc (Linux 6.6, kernel commit e420bed02507). They run before clsact."""

import errno
from typing import Final, NamedTuple

from netbpf._sys import bpf
from netbpf._sys.fd import Fd
from netbpf.constants import AttachType, Hook
from netbpf.errors import (
    HookBusyError,
    InterfaceNotFoundError,
    KernelError,
    NotAttachedError,
    NotSupportedError,
)
from netbpf.model import Interface
from netbpf.net.bpflinks import link_words
from netbpf.net.failures import gone, shown, translated
from netbpf.net.netns import Namespace
from netbpf.text import word

ATTACH_TYPE: Final = {
    Hook.TC_INGRESS: AttachType.TCX_INGRESS,
    Hook.TC_EGRESS: AttachType.TCX_EGRESS,
}

# include/uapi/linux/bpf.h: BPF_F_BEFORE, and BPF_F_ID: relative to an id instead of a descriptor.
_BEFORE: Final = 1 << 3
_BY_ID: Final = 1 << 5


class TcxProgram(NamedTuple):
    """A program on a TCX hook; ``link_id`` is 0 for one attached without a link (BPF_PROG_ATTACH)."""

    prog_id: int
    link_id: int


class TcxHook(NamedTuple):
    """The programs of a TCX hook in running order, and the number that changes with every change to it."""

    programs: tuple[TcxProgram, ...]
    revision: int


def supported() -> bool:
    """Whether the kernel knows TCX. Raises PermissionDeniedError or KernelError if it will not say."""
    # No interface has this index: a kernel with TCX looks for it, one without stops at the attach type.
    nowhere = Interface("(none)", 0x7FFFFFFF, 0)
    try:
        query_here(nowhere, Hook.TC_INGRESS)
    except InterfaceNotFoundError:
        return True
    except NotSupportedError:
        return False
    return True


def query(namespace: Namespace, interface: Interface, hook: Hook) -> TcxHook:
    """What is on the hook. Raises NotSupportedError, InterfaceNotFoundError, PermissionDeniedError, KernelError."""
    return namespace.run(query_here, interface, hook)


def query_here(interface: Interface, hook: Hook) -> TcxHook:
    """``query`` for an interface in the calling thread's namespace: many of them, one thread."""
    try:
        found = bpf.prog_query(interface.index, ATTACH_TYPE[hook])
    except KernelError as error:
        if error.errno == errno.EINVAL:
            raise _unsupported() from error
        action = f"see the TCX programs of {shown(interface)}"
        raise translated(error, action, interface) from error
    programs = zip(found.prog_ids, found.link_ids, strict=True)
    return TcxHook(tuple(TcxProgram(*pair) for pair in programs), found.revision)


def attach_link(
    namespace: Namespace,
    interface: Interface,
    hook: Hook,
    prog_fd: int,
    *,
    before: int = 0,
    expected_revision: int = 0,
) -> Fd:
    """Attach behind what is there; detached when the last descriptor or pin of the link goes.

    ``before``, if not 0, is the id of a program there, to run directly before that one. ``expected_revision``, if not
    0: only while the hook is as a query saw it. Raises HookBusyError (changed, full, or this very program is there),
    NotSupportedError, InterfaceNotFoundError, PermissionDeniedError, KernelError.
    """
    name = shown(interface)
    try:
        return namespace.run(
            bpf.link_create,
            prog_fd,
            interface.index,
            ATTACH_TYPE[hook],
            flags=_BEFORE | _BY_ID if before else 0,
            relative_fd=before,
            expected_revision=expected_revision,
        )
    except KernelError as error:
        where = f"TCX {hook} of {name}"
        if error.errno == errno.EEXIST:
            raise HookBusyError(f"this very program is on {where} already") from error
        if error.errno == errno.ESTALE:
            raise HookBusyError(f"{where} changed meanwhile", hint="try again") from error
        if error.errno == errno.ERANGE:
            raise HookBusyError(f"{where} is full: 64 programs are there") from error
        if error.errno == errno.ENODEV:
            raise gone(interface) from error
        if error.errno == errno.EINVAL and not supported():
            raise _unsupported() from error
        raise translated(error, f"attach a TCX link to {name}", interface) from error


def detach(namespace: Namespace, interface: Interface, hook: Hook, prog_id: int) -> None:
    """Take off a program that was attached without a link (BPF_PROG_ATTACH).

    Raises NotAttachedError where it is gone, HookBusyError where a link holds it, PermissionDeniedError, KernelError.
    """
    where = f"TCX {hook} of {shown(interface)}"

    def remove() -> None:
        with bpf.fd_by_id("PROG", prog_id) as program:
            bpf.prog_detach(interface.index, program.fileno(), ATTACH_TYPE[hook])

    try:
        namespace.run(remove)
    except KernelError as error:
        if error.errno == errno.ENOENT:
            raise NotAttachedError(f"program {prog_id} is not on {where} any more") from error
        if error.errno == errno.EBUSY:
            links = [one.link_id for one in query(namespace, interface, hook).programs
                     if one.prog_id == prog_id and one.link_id]  # fmt: skip
            raise HookBusyError(
                f"a link holds program {prog_id} on {where}"
                + (f": {link_words(links[0])}" if links else ""),
                hint="remove the link's pin, or end the process that has it open; "
                f"netbpf detach tc {word(interface.name)} --force detaches the link",
            ) from error
        raise translated(error, f"detach from {where}", interface) from error


def _unsupported() -> NotSupportedError:
    return NotSupportedError(
        "this kernel has no TCX (Linux 6.6)", hint="attach without --link, through a clsact qdisc"
    )
