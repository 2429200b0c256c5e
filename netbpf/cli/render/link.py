"""Output of ``link``."""

from typing import Any

from netbpf.cli.output import Line, Table, print_json, say
from netbpf.cli.render.holders import holders_json, process_words
from netbpf.constants import AttachType, LinkType
from netbpf.insight.kernel_model import KernelLink
from netbpf.text import escape


def print_links(found: list[KernelLink], *, as_json: bool) -> None:
    """All links."""
    if as_json:
        print_json("link", {"links": [link_json(one) for one in found]})
        return
    table = Table("ID", "TYPE", "PROGRAM", "NAME", "ON", "HELD BY", right=("ID", "PROGRAM"))
    for one in found:
        held = [*map(escape, one.holders.pins), *process_words(one.holders.processes)]
        table.add_row(
            str(one.info.id), type_name(one), str(one.info.prog_id), escape(one.program) or "-", _place(one),
            ", ".join(held),
        )  # fmt: skip
    say([Line("there is no link")] if table.empty else table.lines())


def type_name(one: KernelLink) -> str:
    """The type as bpftool writes it; its number where netbpf does not know it."""
    try:
        return LinkType(one.info.type).name.lower()
    except ValueError:
        return str(one.info.type)


def _attach_type(number: int) -> str:
    try:
        # 0 stands for none elsewhere; of a cgroup it is the first kind.
        return AttachType(number).name.lower() if number else "cgroup_inet_ingress"
    except ValueError:
        return str(number)


def link_words(one: KernelLink) -> str:
    """``17 tcx eth0, pinned as /sys/fs/bpf/link, held by agent(123)``."""
    held = [f"pinned as {escape(path)}" for path in one.holders.pins]
    held += [f"held by {word}" for word in process_words(one.holders.processes)]
    return ", ".join([f"{one.info.id} {type_name(one)} {_place(one)}".rstrip(), *held])


def link_json(one: KernelLink) -> dict[str, Any]:
    """A link with bpftool's fields."""
    place = one.place
    found: dict[str, Any] = {
        "id": one.info.id,
        "type": type_name(one),
        "prog_id": one.info.prog_id,
        "prog_name": one.program,
        "gone": one.info.gone,
    }
    if one.info.type in (LinkType.XDP, LinkType.TCX, LinkType.NETKIT):
        found |= {
            "ifindex": place.ifindex,
            "devname": one.interface or None,
            "netns": one.netns or None,
        }
    if place.attach_type is not None:
        found["attach_type"] = _attach_type(place.attach_type)
    if one.info.type == LinkType.NETNS:
        found["netns_ino"] = place.netns
    if one.info.type == LinkType.CGROUP:
        found["cgroup_id"] = place.cgroup
    if one.info.type == LinkType.TRACING:
        found |= {"target_obj_id": place.target_object, "target_btf_id": place.target_type}
    if one.info.type == LinkType.RAW_TRACEPOINT:
        found["tp_name"] = place.name
    if one.info.type == LinkType.ITER:
        found["target_name"] = place.name
    return found | holders_json(one.holders)


def _place(one: KernelLink) -> str:
    if one.info.gone:
        return "gone"
    place = one.place
    if one.interface:
        return (
            f"{escape(one.netns)}:{escape(one.interface)}" if one.netns else escape(one.interface)
        )
    if place.ifindex:
        return f"interface {place.ifindex} of another namespace"
    if place.netns:
        return f"network namespace {place.netns}"
    if place.cgroup:
        return f"cgroup {place.cgroup}"
    if place.name:
        return escape(place.name)
    return "" if place.attach_type is None else _attach_type(place.attach_type)
