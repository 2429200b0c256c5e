"""Model values as the JSON that scripts rely on."""

from typing import TYPE_CHECKING, Any

from netbpf.constants import ProgType
from netbpf.model import Attachment, Member, Neighbour, ObjectRef, ProgramInfo, Tap

if TYPE_CHECKING:
    from netbpf.state.pending import Pending


def program_json(program: ProgramInfo) -> dict[str, Any]:
    """``{"id", "name", "tag", "type", "map_ids"}``."""
    try:
        kind = ProgType(program.type).name.lower()
    except ValueError:
        kind = str(program.type)
    return {
        "id": program.id,
        "name": program.name,
        "tag": program.tag,
        "type": kind,
        "map_ids": list(program.map_ids),
    }


def member_program_json(member: Member, program: ProgramInfo) -> dict[str, Any]:
    """The same of a member: its own name, tag and maps, and the id of the program it runs in."""
    return program_json(program) | {
        "name": member.program,
        "tag": member.tag,
        "map_ids": [number for _, number in member.maps],
    }


def object_json(ref: ObjectRef | None) -> dict[str, Any] | None:
    """``{"path", "sha256"}``, or null."""
    return {"path": ref.path, "sha256": ref.sha256} if ref else None


def member_json(member: Member, position: int, program: ProgramInfo) -> dict[str, Any]:
    """A member as ``status`` and ``chain`` name it."""
    return {
        "name": member.name,
        "priority": member.priority,
        "position": position,
        "proceed_on": list(member.proceed_on),
        "program": member_program_json(member, program),
        "object": object_json(member.object),
        "added_at": member.added_at,
    }


def neighbour_json(one: Neighbour) -> dict[str, Any]:
    """A program of another manager's dispatcher."""
    return {
        "name": one.name or None,
        "id": one.prog_id or None,
        "tag": one.tag or None,
        "position": one.position,
        "priority": one.priority,
        "proceed_on": None if one.proceed_on is None else list(one.proceed_on),
    }


def hook_json(attachment: Attachment) -> dict[str, Any]:
    """One hook of ``netbpf.status/1``."""
    occupant = attachment.occupant
    return {
        "interface": occupant.interface.name,
        "ifindex": occupant.interface.index,
        "netns": attachment.netns_name,
        "hook": occupant.hook.value,
        "mode": occupant.mode.value,
        "managed": attachment.managed,
        "manager": attachment.manager,
        "program": program_json(attachment.program),
        "object": object_json(attachment.object),
        "link_id": occupant.link_id or None,
        "attached_at": attachment.attached_at,
        "position": occupant.position,
        "members": [
            member_json(one, position, attachment.program)
            for position, one in enumerate(attachment.members)
        ],
        "neighbours": [neighbour_json(one) for one in attachment.neighbours],
        **({"captures": _taps_json(attachment)} if attachment.taps else {}),
    }


def _taps_json(attachment: Attachment) -> list[dict[str, Any]]:
    return [tap_json(one, ended=one.name in attachment.ended) for one in attachment.taps]


def tap_json(one: Tap, *, ended: bool) -> dict[str, Any]:
    """A capture on a hook."""
    return {
        "pid": one.pid,
        "ended": ended,
        "since": one.since,
        "filter": one.filter,
        "member": one.member or None,
        "snaplen": one.snaplen,
    }


def pending_json(pending: "Pending | None") -> dict[str, Any] | None:
    """A change that waits for its confirmation; null for none."""
    if pending is None:
        return None
    return {
        "what": pending.what,
        "hooks": [
            {"interface": one.interface.name, "hook": one.hook.value} for one in pending.steps
        ],
        "netns": pending.netns_name,
        "seconds": pending.seconds,
        "seconds_left": round(pending.left, 3),
        "deadline": pending.since + pending.seconds,
        "watched": pending.watched(),
    }
