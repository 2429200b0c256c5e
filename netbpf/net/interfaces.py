"""Interfaces by the names people type: one name, a list, or globs."""

import fnmatch
from typing import Final

from netbpf.errors import InterfaceNotFoundError, NetbpfError, UsageError
from netbpf.model import Interface
from netbpf.net.devices import Device, device, device_by_name, devices
from netbpf.net.netns import all_namespaces
from netbpf.net.rtnetlink import Session
from netbpf.text import did_you_mean, escape

_GLOB: Final = frozenset("*?[")


def resolve(session: Session, name: str) -> Interface:
    """The interface of that name or alternative name. Its ``name`` is the one it goes by.

    Raises InterfaceNotFoundError, with near names and with the namespaces that have one of this name.
    """
    found = device_by_name(session, name) if _possible(name) else None
    if found is None:
        raise _unknown(session, name)
    return _interface(session, found)


def by_index(session: Session, ifindex: int) -> Interface | None:
    """The interface with that index under its present name, or None."""
    found = device(session, ifindex)
    return None if found is None else _interface(session, found)


def expand(session: Session, spec: str) -> list[Interface]:
    """The interfaces of ``eth0``, ``eth0,eth1`` or ``veth*`` (globs of fnmatch), each once, in the order given.

    A name that exists is taken as it is, whatever characters are in it. Raises InterfaceNotFoundError for a name
    or glob without interface, UsageError for an empty one.
    """
    if _possible(spec) and (exact := device_by_name(session, spec)) is not None:
        return [_interface(session, exact)]
    found: dict[int, Interface] = {}
    present: list[Device] | None = None
    for part in spec.split(","):
        if not part:
            raise UsageError(f"there is an empty interface name in '{escape(spec)}'")
        if not _GLOB.intersection(part):
            interface = resolve(session, part)
            found.setdefault(interface.index, interface)
            continue
        present = devices(session) if present is None else present
        matching = [one for one in present if fnmatch.fnmatchcase(one.name, part)]
        if not matching:
            raise InterfaceNotFoundError(
                f"no interface matches '{escape(part)}'",
                hint=did_you_mean(part, [one.name for one in present], "interfaces here"),
            )
        for one in matching:
            found.setdefault(one.ifindex, _interface(session, one))
    return list(found.values())


def _interface(session: Session, found: Device) -> Interface:
    return Interface(found.name, found.ifindex, session.namespace.inode)


def _possible(name: str) -> bool:
    """Whether the kernel would take it for a name (net/core/dev.c dev_valid_name; ALTIFNAMSIZ is 128)."""
    raw = name.encode(errors="surrogateescape")
    return 0 < len(raw) < 128 and name not in (".", "..") and not set(raw) & set(b"/:\0 \t\n\v\f\r")


def _unknown(session: Session, name: str) -> InterfaceNotFoundError:
    if not name:
        return InterfaceNotFoundError("the interface name is empty")
    shown = escape(name)
    if not _possible(name):
        return InterfaceNotFoundError(f"'{shown}' cannot be the name of an interface")
    where = (
        f" in network namespace {escape(session.namespace.label)}"
        if not session.namespace.is_current()
        else ""
    )
    message = f"no interface '{shown}'{where}"
    if name.isascii() and name.isdigit() and int(name) < 1 << 31:
        other = device(session, int(name))
        if other is not None:
            return InterfaceNotFoundError(message, hint=f"ifindex {name} is {escape(other.name)}")
    elsewhere = _elsewhere(session, name)
    if elsewhere:
        return InterfaceNotFoundError(
            message, hint=f"there is one elsewhere: --netns {escape(elsewhere)}"
        )
    return InterfaceNotFoundError(
        message, hint=did_you_mean(name, [one.name for one in devices(session)], "interfaces here")
    )


def _elsewhere(session: Session, name: str) -> str | None:
    """Another namespace, named by the user, that has an interface of this name."""
    for namespace in all_namespaces():
        if namespace.name is None or namespace == session.namespace:
            continue
        try:
            with Session(namespace) as other:
                if device_by_name(other, name) is not None:
                    return namespace.name
        except NetbpfError:
            continue  # it may not be entered: then it is no help either
    return None
