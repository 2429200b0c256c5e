"""Building anew what ran on a hook before a change, where the process that kept it was killed."""

from contextlib import ExitStack
from dataclasses import replace

from netbpf.bpf.loader import Loaded, load
from netbpf.bpf.map import Map
from netbpf.bpf.object import ObjectSpec
from netbpf.bpf.program import Program
from netbpf.constants import Hook
from netbpf.errors import NotAttachedError
from netbpf.manager import mappinned
from netbpf.manager.build import Builder, kept_object, kernel_types
from netbpf.model import Member
from netbpf.state.records import Generation
from netbpf.text import escape


def rebuilt(stack: ExitStack, hook: Hook, known: Generation) -> tuple[Program, Generation, str]:
    """The program of a generation from its kept objects, with the maps that still live; what was lost, in words.

    It lives until ``stack`` ends. Raises what loading raises, and NetbpfError where an object is lost.
    """
    fresh: dict[str, Loaded] = {}
    members, lost = [], []
    for one in known.members:
        gone = [name for name, number in one.maps if not _alive(number)]
        if not gone:
            members.append(one)
            continue
        loaded = stack.enter_context(_loaded(one, hook, gone))
        fresh[one.name] = loaded
        maps = tuple((name, each.info.id) for name, each in loaded.maps.items())
        members.append(replace(one, maps=maps))
        lost += [f"{escape(one.name)}.{escape(name)}" for name in gone]
    counting = bool(known.counters) and _alive(known.counters)
    if known.counters and not counting:
        lost.append("the counts of the chain")
    builder = stack.enter_context(Builder(hook))
    built = builder.build(tuple(members), known if counting else None, fresh)
    info = built.program.info
    new = replace(
        known, prog_id=info.id, tag=info.tag, name=info.name, members=built.members,
        counters=built.counters, pinned=mappinned.chosen((*built.holds, *built.onward), known),
    )  # fmt: skip
    mappinned.hold(new, known)
    note = f"lost with the process that kept them, and as the object has them: {', '.join(lost)}"
    return built.program, new, note if lost else ""


def _loaded(member: Member, hook: Hook, gone: list[str]) -> Loaded:
    spec = ObjectSpec(kept_object(member), member.object.path)
    with ExitStack() as opened:
        maps = {
            name: opened.enter_context(Map.by_id(number))
            for name, number in member.maps
            if name not in gone
        }
        return load(
            spec, spec.select(hook, member.program), hook, reuse=maps,
            extra_maps=tuple(name for name, _ in member.maps), kernel_btf=kernel_types(member),
        )  # fmt: skip


def _alive(map_id: int) -> bool:
    try:
        Map.by_id(map_id).close()
    except NotAttachedError:
        return False
    return True
