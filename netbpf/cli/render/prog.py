"""Output of ``prog list`` and ``prog show``: bpftool's field names, and some of netbpf's own."""

import time
from collections.abc import Iterable, Iterator
from typing import Any

from netbpf.cli.output import Line, Table, print_json, say
from netbpf.cli.render.holders import holders_json, hook_words, hooks_json, process_words, used_by
from netbpf.insight.kernel_model import KernelProgram
from netbpf.insight.names import type_name
from netbpf.text import ago, escape


def print_programs(found: list[KernelProgram], *, as_json: bool, detail: bool = False) -> None:
    """A table, or all that is known of each."""
    if as_json:
        print_json("prog", {"programs": [program_json(one) for one in found]})
    elif detail:
        for number, one in enumerate(found):
            say([*([Line("")] if number else []), *_detail(one)])
    else:
        say(_table(found))


def _loaded_at(one: KernelProgram) -> float:
    """Seconds since 1970; the kernel counts from boot (CLOCK_BOOTTIME)."""
    boot = time.time() - time.clock_gettime(time.CLOCK_BOOTTIME)
    return boot + one.info.loaded_at_ns / 1e9


def program_json(one: KernelProgram) -> dict[str, Any]:
    """A program with bpftool's fields; ``attached`` is netbpf's."""
    from netbpf.cli.render.link import link_json

    info = one.info
    found: dict[str, Any] = {
        "id": info.id,
        "type": type_name(info.type),
        "name": info.name,
        "tag": info.tag,
        "gpl_compatible": info.gpl_compatible,
        "loaded_at": int(_loaded_at(one)),
        "uid": info.uid,
        "bytes_xlated": info.xlated_size,
        "jited": bool(info.jited_size),
        "bytes_jited": info.jited_size,
        "bytes_memlock": one.memlock,
        "map_ids": list(info.map_ids),
        "btf_id": info.btf_id or None,
        "verified_insns": info.verified_insns,
    }
    if info.run_count:
        found |= {"run_time_ns": info.run_time_ns, "run_cnt": info.run_count}
    found |= holders_json(one.holders) | {"attached": hooks_json(one.hooks)}
    if one.links is not None:
        found["links"] = list(map(link_json, one.links))
    return found


def _table(found: Iterable[KernelProgram]) -> list[Line]:
    right = ("ID", "BYTES", "MAPS")
    table = Table("ID", "TYPE", "NAME", "TAG", "BYTES", "MAPS", "AGE", "USED BY", right=right)
    for one in found:
        info = one.info
        table.add_row(
            str(info.id), type_name(info.type), escape(info.name) or "-", info.tag, str(info.xlated_size),
            str(len(info.map_ids)), ago(max(time.time() - _loaded_at(one), 0)), used_by(one.hooks, one.holders),
        )  # fmt: skip
    return [Line("no program is loaded")] if table.empty else table.lines()


def _detail(one: KernelProgram) -> Iterator[Line]:
    from datetime import datetime

    from netbpf.cli.render.link import link_words

    info = one.info
    yield Line(f"program {info.id}: {type_name(info.type)} {escape(info.name) or '-'}", "bold")
    when = datetime.fromtimestamp(_loaded_at(one)).astimezone().isoformat(" ", "seconds")
    jited = f"{info.jited_size} bytes" if info.jited_size else "none: it is interpreted"
    rows = [
        ("tag", info.tag),
        ("loaded", f"{when}, by user {info.uid}"),
        ("license", "compatible with the GPL" if info.gpl_compatible else "not the GPL"),
        ("instructions", f"{info.xlated_size} bytes, {info.verified_insns} steps of the verifier"),
        ("machine code", jited),
        ("memory", f"{one.memlock} bytes"),
        ("maps", ", ".join(map(str, info.map_ids)) or "none"),
        ("BTF", str(info.btf_id or "none")),
    ]
    if info.run_count:
        rows.append(("runs", f"{info.run_count}, {info.run_time_ns // info.run_count} ns each"))
    rows += [("runs on", word) for word in hook_words(one.hooks)]
    rows += [("link", link_words(link)) for link in one.links or ()]
    rows += [("pinned", escape(path)) for path in one.holders.pins]
    rows += [("held by", word) for word in process_words(one.holders.processes)]
    for name, value in rows:
        yield Line(f"  {name:<12}  {value}")
