"""What ``load`` and ``unload`` print, and ``status`` of what is loaded."""

import time
from typing import Any

import click

from netbpf.cli.output import Line, Table, print_json
from netbpf.cli.render.holders import holders_json, hook_words, hooks_json, process_words
from netbpf.insight.names import map_type_name, type_name
from netbpf.manager.loading import LoadResult, UnloadResult
from netbpf.manager.loadpins import LoadedSet
from netbpf.manager.usage import Remaining
from netbpf.text import ago, escape


def print_loaded(result: LoadResult, *, as_json: bool) -> None:
    """A line per program, one for the maps."""
    for note in result.notes:
        click.echo(f"netbpf: note: {note}", err=True)
    one = result.loaded
    if as_json:
        programs = zip(one.programs, result.programs, strict=True)
        maps = zip(one.maps, result.maps, strict=True)
        content = {
            "name": one.name,
            "directory": str(one.directory),
            "object": {"path": one.object.path, "sha256": one.object.sha256},
            "loaded_at": one.loaded_at,
            "programs": [
                {
                    "id": info.id, "name": each.name, "section": each.section, "type": type_name(info.type),
                    "tag": info.tag, "pinned": str(each.pin),
                }
                for each, info in programs
            ],
            "maps": [
                {"id": info.id, "name": each.name, "type": map_type_name(info.type), "pinned": str(each.pin)}
                for each, info in maps
            ],
        }  # fmt: skip
        print_json("load", content)
        return
    for each, info in zip(one.programs, result.programs, strict=True):
        pin = escape(str(each.pin))
        click.echo(f"{escape(each.name)} loaded ({type_name(info.type)}, program {info.id}, {pin})")
    for each, map_info in zip(one.maps, result.maps, strict=True):
        kind = map_type_name(map_info.type)
        pin = escape(str(each.pin))
        click.echo(f"  map {escape(each.name)} ({kind}, map {map_info.id}, {pin})")


def table(loaded: list[LoadedSet]) -> list[Line]:
    """The lines for ``status``: a program each."""
    from netbpf.cli.render.status import shown_path

    made = Table("LOADED", "PROGRAM", "ID", "SINCE", "OBJECT", "PINNED", right=("ID",))
    for one in loaded:
        path = escape(shown_path(one.object.path)) if one.object.path else "-"
        since = ago(max(time.time() - one.loaded_at, 0))
        for program in one.programs:
            made.add_row(
                escape(one.name), escape(program.name), str(program.id), since, path, escape(str(program.pin))
            )  # fmt: skip
    return made.lines()


def set_json(one: LoadedSet) -> dict[str, Any]:
    """One set of ``netbpf.status/1``."""
    return {
        "name": one.name,
        "directory": str(one.directory),
        "object": {"path": one.object.path, "sha256": one.object.sha256} if one.object.path else None,
        "loaded_at": one.loaded_at,
        "programs": [
            {"id": each.id, "name": each.name, "pinned": str(each.pin)} for each in one.programs
        ],
        "maps": [{"id": each.id, "name": each.name, "pinned": str(each.pin)} for each in one.maps],
    }  # fmt: skip


def print_unloaded(found: list[UnloadResult], *, as_json: bool) -> None:
    """A line per program: gone, or what holds it."""
    if as_json:
        print_json("unload", {"unloaded": [_json(one) for one in found]})
        return
    if not found:
        click.echo("nothing is loaded")
    for one in found:
        for path in one.foreign:
            click.echo(
                f"netbpf: note: {escape(str(path))} holds something else by now, and stays",
                err=True,
            )
        left = {each.id: each for each in one.remaining}
        for program in one.unloaded.programs:
            still = left.get(program.id)
            name = escape(program.name)
            if still is None:
                click.echo(f"{name} unloaded (program {program.id})")
            elif still.linked:
                hooks = ", ".join(hook_words(still.hooks))
                click.echo(
                    f"{name} unloaded (program {program.id}); a copy of it runs in the chain of {hooks}"
                )
            else:
                click.echo(
                    f"{name} is no longer pinned; program {program.id} stays loaded: {_why(still)}"
                )


def _why(one: Remaining) -> str:
    words = [f"runs on {each}" for each in hook_words(one.hooks)]
    words += [f"link {number} holds it" for number in one.links]
    words += [f"map {number} jumps to it" for number in one.arrays]
    words += [f"held by {each}" for each in process_words(one.holders.processes)]
    words += [f"pinned as {escape(each)}" for each in one.holders.pins]
    return ", ".join(words) or "something holds it that cannot be seen from here"


def _json(one: UnloadResult) -> dict[str, Any]:
    left = {each.id: each for each in one.remaining}
    return {
        "name": one.unloaded.name,
        "directory": str(one.unloaded.directory),
        "object": {"path": one.unloaded.object.path, "sha256": one.unloaded.object.sha256},
        "foreign": [str(path) for path in one.foreign],
        "programs": [
            _program(each.name, each.id, left.get(each.id)) for each in one.unloaded.programs
        ],
    }


def _program(name: str, number: int, still: Remaining | None) -> dict[str, Any]:
    found = still or Remaining(name, number)
    return {
        "id": number,
        "name": name,
        "loaded": still is not None and not still.linked,
        "in_chain": found.linked,
        "attached": hooks_json(found.hooks),
        "link_ids": list(found.links),
        "prog_array_ids": list(found.arrays),
        **holders_json(found.holders),
    }
