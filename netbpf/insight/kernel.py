"""Programs, maps and links of the kernel, listed and chosen. What vanishes meanwhile is left out."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import replace
from typing import TypeVar

from netbpf._sys import bpf as sys_bpf
from netbpf._sys.describe import fdinfo, link_place
from netbpf._sys.fd import Fd
from netbpf._sys.info import link_info
from netbpf._sys.procfs import Descriptors
from netbpf.bpf.holders import HolderTable
from netbpf.bpf.ids import link_ids, map_ids, program_ids
from netbpf.bpf.map import Map
from netbpf.bpf.program import Program
from netbpf.errors import KernelError, NotAttachedError, PermissionDeniedError
from netbpf.insight.choose import Wanted, by_pin
from netbpf.insight.kernel_model import KernelLink, KernelMap, KernelProgram
from netbpf.model import Attachment, ProgramInfo

T = TypeVar("T")


def programs(wanted: Wanted, hooks: Callable[[], list[Attachment]]) -> list[KernelProgram]:
    """The programs that were asked for, by id; ``hooks`` says what runs on interfaces.

    Links are looked for where not every program is wanted. Raises NotAttachedError where none is there,
    PermissionDeniedError.
    """
    table, found = HolderTable("program", *(() if wanted.everything else ("link",))), []
    places: dict[int, list[Attachment]] | None = None
    held: dict[int, list[KernelLink]] | None = None
    with Descriptors() as own:
        for one in _open_programs(wanted):
            with one:
                number = one.info.id
                if places is None:
                    attached = hooks()
                    places = _places(attached)
                    held = None if wanted.everything else _holding(attached, table)
                found.append(
                    KernelProgram(
                        one.info, _memlock(own, one.fd.fileno()), table.of("program", number),
                        _still(places.get(number, []), one.info),
                        None if held is None else _named(held.get(number, ()), one.info.name),
                    )
                )  # fmt: skip
    return found


def _holding(attached: list[Attachment], table: HolderTable) -> dict[int, list[KernelLink]] | None:
    """All links by the ids of their programs; None where one may not look."""
    at, found = _by_link(attached), dict[int, list[KernelLink]]()
    try:
        for number in link_ids():
            with suppress(NotAttachedError), _link_by_id(number) as link:
                one = _link(link, at, table)
                found.setdefault(one.info.prog_id, []).append(one)
    except PermissionDeniedError:
        return None
    return found


def _named(links: Iterable[KernelLink], program: str) -> tuple[KernelLink, ...]:
    return tuple(replace(one, program=program) for one in links)


def _places(attached: list[Attachment]) -> dict[int, list[Attachment]]:
    """Where programs run, by their ids."""
    found: dict[int, list[Attachment]] = {}
    for one in attached:
        for number in _runs(one):
            found.setdefault(number, []).append(one)
    return found


def _still(places: list[Attachment], info: ProgramInfo) -> tuple[Attachment, ...]:
    """Those that mean this program, and not one that had its id before."""
    return tuple(
        one for one in places if one.program.id != info.id or one.program.loaded_at_ns == info.loaded_at_ns
    )  # fmt: skip


def _runs(attachment: Attachment) -> set[int]:
    return {attachment.program.id, *(one.prog_id for one in attachment.neighbours)}


def _open_programs(wanted: Wanted) -> Iterator[Program]:
    def fits(one: Program) -> bool:
        return wanted.fits(one.info.id, one.info.name, one.info.tag)

    return _opened(wanted, "program", program_ids, Program.by_id, Program, fits)


def _opened(
    wanted: Wanted,
    kind: str,
    ids: Callable[[], Iterator[int]],
    by_id: Callable[[int], T],
    by_fd: Callable[[Fd], T],
    fits: Callable[[T], bool],
) -> Iterator[T]:
    """Each that was asked for, to be closed by the caller. NotAttachedError for none, if one was asked for."""
    if wanted.path is not None:
        yield by_fd(by_pin(wanted.path, kind))
        return
    if wanted.id is not None:
        yield by_id(wanted.id)
        return
    some = False
    for number in ids():
        try:
            one = by_id(number)
        except NotAttachedError:
            continue
        if fits(one):
            some = True
            yield one
        else:
            one.close()  # type: ignore[attr-defined]
    if not some and not wanted.everything:
        raise NotAttachedError(f"there is no {kind} {wanted}", hint=f"list them: {_LIST[kind]}")


_LIST = {"program": "netbpf prog", "map": "netbpf map", "link": "netbpf link"}


def open_program(wanted: Wanted) -> Program:
    """The one program that was asked for, open. Raises NotAttachedError, UsageError where several fit."""
    found = list(_open_programs(wanted))
    return wanted.only(found, "program", [str(one.info.id) for one in found])


def open_map(wanted: Wanted) -> Map:
    """The one map that was asked for, open. Raises NotAttachedError, UsageError where several fit."""
    found = list(_open_maps(wanted))
    return wanted.only(found, "map", [str(one.info.id) for one in found])


def _open_maps(wanted: Wanted) -> Iterator[Map]:
    def fits(one: Map) -> bool:
        return wanted.fits(one.info.id, one.info.name)

    return _opened(wanted, "map", map_ids, Map.by_id, Map, fits)


def maps(wanted: Wanted, hooks: Callable[[], list[Attachment]]) -> list[KernelMap]:
    """The maps that were asked for, with the programs that use them. Raises as ``programs``."""
    table, found = HolderTable("map"), []
    users: dict[int, list[int]] | None = None
    attached: list[Attachment] = []
    for one in _open_maps(wanted):
        with one:
            # Once it is open, its id cannot become another's.
            if users is None:
                users, attached = _users(), hooks()
            details = fdinfo(one.fd.fileno())
            using = tuple(users.get(one.info.id, ()))
            owner = details.get("owner_prog_type")
            found.append(
                KernelMap(
                    one.info, int(details.get("memlock", 0)), details.get("frozen") == "1", using,
                    table.of("map", one.info.id), tuple(each for each in attached if _runs(each) & set(using)),
                    int(owner) if owner else None, details.get("owner_jited") == "1",
                )
            )  # fmt: skip
    return found


def links(wanted: Wanted, hooks: Callable[[], list[Attachment]]) -> list[KernelLink]:
    """The links that were asked for; ``hooks`` says what runs on interfaces. Raises as ``programs``.

    A link has the number of its interface and not its namespace, where another interface has that number: the name is
    taken only from where the link was found.
    """
    table, found = HolderTable("link"), []
    at: dict[int, Attachment] | None = None
    for one in _opened(wanted, "link", link_ids, _link_by_id, lambda fd: fd, lambda _: True):
        with one:
            at = _by_link(hooks()) if at is None else at
            made = _link(one, at, table)
            found.append(replace(made, program=_program_name(made.info.prog_id)))
    return found


def _by_link(attached: list[Attachment]) -> dict[int, Attachment]:
    return {each.occupant.link_id: each for each in attached}


def _link(fd: Fd, at: dict[int, Attachment], table: HolderTable) -> KernelLink:
    """A link without the name of its program; ``at`` is where links are on interfaces."""
    info = link_info(fd.fileno())
    place = link_place(fd.fileno(), info.type)
    on = at.get(info.id) if place.ifindex else None
    name, netns = (on.occupant.interface.name, on.netns_name or "") if on else ("", "")
    return KernelLink(info, place, name, netns, holders=table.of("link", info.id))


def _users() -> dict[int, list[int]]:
    """The ids of the programs that use maps, by the maps' ids."""
    found: dict[int, list[int]] = {}
    for number in program_ids():
        with suppress(NotAttachedError), Program.by_id(number) as program:
            for each in program.info.map_ids:
                found.setdefault(each, []).append(number)
    return found


def _program_name(number: int) -> str:
    try:
        with Program.by_id(number) as program:
            return program.info.name
    except NotAttachedError:
        return ""


def _link_by_id(number: int) -> Fd:
    import errno

    from netbpf._sys.capabilities import Capability, permission_error

    try:
        return sys_bpf.fd_by_id("LINK", number)
    except KernelError as error:
        # A link whose last descriptor is being closed: EAGAIN (kernel/bpf/syscall.c, bpf_link_by_id).
        if error.errno in (errno.ENOENT, errno.EAGAIN):
            raise NotAttachedError(f"link {number} does not exist any more") from None
        if error.errno == errno.EPERM:
            raise permission_error(f"open link {number}", Capability.SYS_ADMIN) from None
        raise


def _memlock(own: Descriptors, fd: int) -> int:
    try:
        return own.number(fd, "memlock")
    except ValueError:
        return 0
