"""Output of ``map list`` and ``map show``: bpftool's field names, and some of netbpf's own."""

from collections.abc import Iterable, Iterator
from typing import Any

from netbpf.cli.output import Line, Table, print_json, say
from netbpf.cli.render.holders import holders_json, hook_words, hooks_json, process_words, used_by
from netbpf.insight.kernel_model import KernelMap
from netbpf.insight.names import map_flags, map_type_name, type_name
from netbpf.text import escape


def print_maps(found: list[KernelMap], *, as_json: bool, detail: bool = False) -> None:
    """A table, or all that is known of each."""
    if as_json:
        print_json("map", {"maps": [map_json(one) for one in found]})
    elif detail:
        for number, one in enumerate(found):
            say([*([Line("")] if number else []), *_detail(one)])
    else:
        say(_table(found))


def map_json(one: KernelMap) -> dict[str, Any]:
    """A map with bpftool's fields; ``prog_ids`` and ``attached`` are netbpf's."""
    info = one.info
    found: dict[str, Any] = {
        "id": info.id,
        "type": map_type_name(info.type),
        "name": info.name,
        "flags": info.flags,
        "bytes_key": info.key_size,
        "bytes_value": info.value_size,
        "max_entries": info.max_entries,
        "bytes_memlock": one.memlock,
        "frozen": int(one.frozen),
        "btf_id": info.btf_id or None,
    }
    if one.owner_type is not None:
        found |= {"owner_prog_type": type_name(one.owner_type), "owner_jited": one.owner_jited}
    return (
        found
        | {"prog_ids": list(one.programs)}
        | holders_json(one.holders)
        | {"attached": hooks_json(one.hooks)}
    )


def _table(found: Iterable[KernelMap]) -> list[Line]:
    right = ("ID", "KEY", "VALUE", "ENTRIES", "MEMORY")
    columns = ("ID", "TYPE", "NAME", "KEY", "VALUE", "ENTRIES", "MEMORY", "PROGRAMS", "USED BY")
    table = Table(*columns, right=right)
    for one in found:
        info = one.info
        programs = ", ".join(map(str, one.programs[:3])) + (
            ", ..." if len(one.programs) > 3 else ""
        )
        table.add_row(
            str(info.id), map_type_name(info.type), escape(info.name) or "-", str(info.key_size),
            str(info.value_size), str(info.max_entries), str(one.memlock), programs,
            used_by(one.hooks, one.holders),
        )  # fmt: skip
    return [Line("there is no map")] if table.empty else table.lines()


def _detail(one: KernelMap) -> Iterator[Line]:
    info = one.info
    yield Line(f"map {info.id}: {map_type_name(info.type)} {escape(info.name) or '-'}", "bold")
    rows = [
        ("key", f"{info.key_size} bytes"),
        ("value", f"{info.value_size} bytes"),
        ("entries", f"at most {info.max_entries}"),
        ("flags", ", ".join(map_flags(info.flags)) or "none"),
        ("memory", f"{one.memlock} bytes"),
        ("BTF", str(info.btf_id or "none")),
    ]
    if one.frozen:
        rows.append(("frozen", "user space cannot write to it any more"))
    if one.owner_type is not None:
        rows.append(("takes", f"{type_name(one.owner_type)} programs"))
    rows.append(("programs", ", ".join(map(str, one.programs)) or "none"))
    rows += [("used on", word) for word in hook_words(one.hooks)]
    rows += [("pinned", escape(path)) for path in one.holders.pins]
    rows += [("held by", word) for word in process_words(one.holders.processes)]
    for name, value in rows:
        yield Line(f"  {name:<8}  {value}")
