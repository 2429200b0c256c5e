"""The members of a hook: naming, ordering, adding, changing and taking out. Nothing here touches the kernel."""

from collections.abc import Iterable
from dataclasses import replace

from netbpf.errors import HookBusyError, NotAttachedError
from netbpf.model import Member
from netbpf.text import did_you_mean, escape

Members = tuple[Member, ...]


def ordered(members: Iterable[Member]) -> Members:
    """In running order: lower priority first, ties in the order of attaching."""
    return tuple(sorted(members, key=lambda one: (one.priority, one.order)))


def add(members: Members, new: Member, where: str) -> Members:
    """``members`` with a new one, which gets its place in the order; ``where`` names the hook.

    HookBusyError if its name is taken.
    """
    if any(one.name == new.name for one in members):
        raise HookBusyError(
            f"{where} has a member {escape(new.name)} already",
            hint="give this one another name with --name",
        )
    last = max((one.order for one in members), default=-1)
    return ordered((*members, replace(new, order=last + 1)))


def same_program(members: Members, new: Member) -> Member | None:
    """The member that runs the same program of the same object: by content, or by path where that was rebuilt."""
    return next(
        (
            one
            for one in members
            if one.program == new.program
            and (one.object.sha256 == new.object.sha256 or one.object.path == new.object.path)
        ),
        None,
    )


def free_name(members: Members, wanted: str) -> str:
    """``wanted``, with a number behind it where another member has it."""
    names = {one.name for one in members}
    if wanted not in names:
        return wanted
    return next(name for n in range(2, len(names) + 3) if (name := f"{wanted}-{n}") not in names)


def find(members: Members, name: str, where: str) -> Member:
    """The member called ``name``; NotAttachedError with near names."""
    for one in members:
        if one.name == name:
            return one
    names = [one.name for one in members]
    raise NotAttachedError(
        f"{where} has no member {escape(name)}",
        hint=did_you_mean(name, names, "its members are") or "netbpf chain shows them",
    )


def without(members: Members, gone: Member) -> Members:
    """All but one."""
    return tuple(one for one in members if one.name != gone.name)


def changed(members: Members, new: Member) -> Members:
    """With a member in place of the one of its name."""
    return ordered(new if one.name == new.name else one for one in members)
