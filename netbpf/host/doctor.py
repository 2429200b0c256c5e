"""``netbpf doctor``: every check of this host, and of one interface."""

import os
from dataclasses import replace

from netbpf.host import interface as interface_checks
from netbpf.host import kernel_checks, leftovers, network, rights, tools
from netbpf.host.finding import Finding, Report, Section, command
from netbpf.manager.status import opened, reached_by
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
            lines = interface_checks.checks(session, found)
            where = None if namespace.is_current() else reached_by(namespace)
            about.append(Section(title, tuple(_there(one, where) for one in lines)))
    return Report((
        Section("kernel", tuple(kernel_checks.checks())),
        Section(f"rights of user {os.geteuid()}", tuple(rights.checks())),
        Section("packets", tuple(network.checks())),
        Section("compilers", tuple(tools.checks())),
        Section("netbpf", tuple(leftovers.checks())),
        *about,
    ))  # fmt: skip


def _there(finding: Finding, where: str | None) -> Finding:
    """The finding with commands that act in the network namespace that it is about."""
    if where is None:
        return finding
    if where.startswith("pid:"):
        enter = command("nsenter", f"--net=/proc/{where.removeprefix('pid:')}/ns/net")
    elif "/" in where:
        enter = command("nsenter", f"--net={where}")
    else:
        enter = command("ip", "netns", "exec", where)
    fix = (
        f"{one} {command('--netns', where)}" if one.startswith("netbpf ") else f"{enter} {one}"
        for one in finding.fix
    )
    return replace(finding, fix=tuple(fix))
