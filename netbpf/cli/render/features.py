"""Output of ``features``."""

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from netbpf.bpf.probes import Told
from netbpf.cli.output import Line, Table, print_json, say
from netbpf.errors import ExitCode, NetbpfError
from netbpf.host.features import Features, Kfunc
from netbpf.host.having import Has
from netbpf.text import escape

_WIDTH = 100  # of the lists of names


class Parts(NamedTuple):
    """What is wanted; nothing means an overview, in JSON everything."""

    programs: bool = False
    maps: bool = False
    helpers: str | None = None
    kfuncs: str | None = None
    attach: bool = False
    misc: bool = False


class Collected(NamedTuple):
    """What the kernel said. ``kfuncs`` is None where its types cannot be read, which ``no_kfuncs`` explains."""

    kernel: str
    programs: Mapping[str, Told]
    maps: Mapping[str, Told]
    helpers: Mapping[str, Mapping[str, Told]]
    kfuncs: Mapping[str, Kfunc]
    attach: Mapping[str, Told]
    misc: Mapping[str, Told]
    no_kfuncs: str
    asked: int


def collected(here: Features, parts: Parts) -> Collected:
    """Ask for what is wanted, and for no more."""
    everything = not any(parts)
    helpers = _types(here, "all" if everything else parts.helpers)
    kfuncs: dict[str, Kfunc] = {}
    why = ""
    if everything or parts.kfuncs:
        only = None if everything or parts.kfuncs in (None, "all") else here.type_name(parts.kfuncs)
        try:
            kfuncs = {
                name: one
                for name, one in here.kfuncs.items()
                if only is None or (only in one.types and one.types[only].here)
            }
        except NetbpfError as error:
            if parts.kfuncs:
                raise
            why = error.message
    return Collected(
        here.kernel,
        here.program_types if everything or parts.programs else {},
        here.map_types if everything or parts.maps else {},
        {name: here.helpers(name) for name in helpers},
        kfuncs,
        here.attach_kinds if everything or parts.attach else {},
        here.misc if everything or parts.misc else {},
        why,
        here.asked,
    )


def _types(here: Features, wanted: str | None) -> list[str]:
    if wanted is None:
        return []
    return list(here.program_types) if wanted == "all" else [here.type_name(wanted)]


def print_features(found: Collected, parts: Parts, *, as_json: bool) -> None:
    """Everything that was asked for; without a wish an overview, with counts instead of the names of functions."""
    if as_json:
        print_json("features", _json(found, parts))
        return
    overview = not any(parts)
    lines: list[Line] = []
    if overview:
        lines += [
            Line(f"Linux {escape(found.kernel)}: asked with {found.asked:,} small programs"),
            Line(""),
        ]
    for title, answers in (
        ("program types", found.programs), ("map types", found.maps), ("ways to attach", found.attach),
        ("programs may have", found.misc),
    ):  # fmt: skip
        if answers:
            lines += [*_names(title, answers), Line("")]
    if overview:
        lines += _counts(found)
    else:
        for kind, helpers in found.helpers.items():
            lines += [*_names(f"helpers of {kind}", helpers, brief=True), Line("")]
        if parts.kfuncs:
            lines += [*_kfuncs(found.kfuncs, parts.kfuncs), Line("")]
    while lines and not lines[-1].text:
        lines.pop()
    say(lines)


def _names(title: str, answers: Mapping[str, Told], *, brief: bool = False) -> list[Line]:
    """Those that are there in lines of words; what is not there, or not told, behind them with the reason.

    ``brief``: reasons of those that are not there are left out, for most helpers are not of most types.
    """
    there = [name for name, told in answers.items() if told.here]
    lines = [Line(f"{title} ({len(there)})", "bold"), *_wrapped(there)]
    conditions: dict[str, list[str]] = {}
    for name, told in answers.items():
        if told.here and told.why:
            conditions.setdefault(told.why, []).append(name)
        elif told.here is None or (told.here is False and not brief):
            conditions.setdefault(told.why or "not told", []).append(name)
    for why, names in conditions.items():
        lines.append(Line(f"  {escape(why)}:", "dim"))
        lines += _wrapped(names, indent=4)
    return lines


def _wrapped(names: Iterable[str], indent: int = 2) -> list[Line]:
    lines: list[str] = []
    for name in names:
        word = escape(name)
        if lines and len(lines[-1]) + 1 + len(word) <= _WIDTH:
            lines[-1] += f" {word}"
        else:
            lines.append(" " * indent + word)
    return [Line(text) for text in lines]


def _counts(found: Collected) -> list[Line]:
    table = Table("FUNCTIONS OF", "HELPERS", "KFUNCS", right=("HELPERS", "KFUNCS"))
    for name, told in found.programs.items():
        if not told.here:
            continue
        callable_ = sum(one.here is True for one in found.helpers[name].values())
        kernel = sum(
            name in one.types and one.types[name].here is True for one in found.kfuncs.values()
        )
        table.add_row(name, str(callable_), "-" if found.no_kfuncs else str(kernel))
    lines = [
        *table.lines(),
        Line("their names: netbpf features --helpers TYPE, --kfuncs TYPE", "dim"),
    ]
    if found.no_kfuncs:
        lines.append(Line(escape(found.no_kfuncs)))
    return lines


def _kfuncs(found: Mapping[str, Kfunc], wanted: str) -> list[Line]:
    title = "kernel functions" if wanted == "all" else f"kernel functions of {escape(wanted)}"
    lines = [Line(f"{title} ({len(found)})", "bold")]
    modules: dict[str, list[str]] = {}
    for one in found.values():
        modules.setdefault(one.module, []).append(one.name)
    for module, names in modules.items():
        if module:
            lines.append(Line(f"  of module {escape(module)}:", "dim"))
        lines += _wrapped(names, indent=4 if module else 2)
    return lines


def _json(found: Collected, parts: Parts) -> dict[str, Any]:
    everything = not any(parts)
    content: dict[str, Any] = {"kernel": found.kernel}
    if found.programs:
        content["program_types"] = _answers("have_{}_prog_type", found.programs)
    if found.maps:
        content["map_types"] = _answers("have_{}_map_type", found.maps)
    if found.helpers:
        content["helpers"] = {
            f"{kind}_available_helpers": [name for name, told in helpers.items() if told.here]
            for kind, helpers in found.helpers.items()
        }
    if everything or parts.kfuncs:
        content["kfuncs"] = [
            {
                "name": one.name,
                "module": one.module,
                "types": [kind for kind, told in one.types.items() if told.here],
            }
            for one in found.kfuncs.values()
        ]
    if found.attach:
        content["attach_kinds"] = _answers("have_{}", found.attach)
    if found.misc:
        content["misc"] = _answers("have_{}", found.misc)
    notes = [
        {"name": name, "why": told.why}
        for part in (found.programs, found.maps, found.attach, found.misc)
        for name, told in part.items()
        if told.why and told.here is not True
    ]
    if found.no_kfuncs:
        notes.append({"name": "kfuncs", "why": found.no_kfuncs})
    return {**content, "notes": notes, "asked": found.asked}


def _answers(form: str, answers: Mapping[str, Told]) -> dict[str, bool | None]:
    return {form.format(name): told.here for name, told in answers.items()}


def print_has(found: list[Has], *, as_json: bool) -> int:
    """One line for each; the exit code: 0 where all is there, else 5."""
    if as_json:
        rows = [
            {"name": one.name, "kind": one.kind or None, "here": one.here, "why": one.why, "types": list(one.types)}
            for one in found
        ]  # fmt: skip
        print_json("features", {"has": rows})
    else:
        table = Table("NAME", "KIND", "HERE", "")
        for one in found:
            more = one.why or (_few(one.types) if one.types else "")
            table.add_row(
                escape(one.name), one.kind or "-", {True: "yes", False: "no", None: "not told"}[one.here], escape(more)
            )  # fmt: skip
        say(table.lines())
    return ExitCode.OK if all(one.here for one in found) else ExitCode.NOT_SUPPORTED


def _few(types: tuple[str, ...]) -> str:
    most = 6
    return (
        "of "
        + " ".join(types[:most])
        + (f" and {len(types) - most} more" if len(types) > most else "")
    )
