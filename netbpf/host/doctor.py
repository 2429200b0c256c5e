"""``netbpf doctor``: every check of this host, and of one interface."""

import os

from netbpf.host import interface as interface_checks
from netbpf.host import kernel_checks, leftovers, network, rights, tools
from netbpf.host.finding import Report, Section
from netbpf.manager.status import opened
from netbpf.net.interfaces import resolve
from netbpf.net.netns import Namespace
from netbpf.net.rtnetlink import Session
from netbpf.text import escape


def examine(interface: str | None = None, *, netns: str | Namespace | None = None) -> Report:
    """Look at everything; nothing is changed.

    Raises InterfaceNotFoundError, NamespaceNotFoundError, PermissionDeniedError where ``netns`` may not be entered.
    """
    # First what may be wrong with the request itself.
    about: list[Section] = []
    if interface is not None:
        with opened(netns) as namespace, Session(namespace) as session:
            found = resolve(session, interface)
            title = f"interface {escape(found.name)}"
            about.append(Section(title, tuple(interface_checks.checks(session, found))))
    return Report((
        Section("kernel", tuple(kernel_checks.checks())),
        Section(f"rights of user {os.geteuid()}", tuple(rights.checks())),
        Section("packets", tuple(network.checks())),
        Section("compilers", tuple(tools.checks())),
        Section("netbpf", tuple(leftovers.checks())),
        *about,
    ))  # fmt: skip
