"""Model values as the JSON that scripts rely on."""

from typing import Any

from netbpf.constants import ProgType
from netbpf.model import Attachment, ProgramInfo


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
        "object": {"path": attachment.object.path, "sha256": attachment.object.sha256}
        if attachment.object
        else None,
        "link_id": occupant.link_id or None,
        "attached_at": attachment.attached_at,
        "position": occupant.position,
        "members": list(attachment.members),
    }
