"""Chains: what a packet costs on its way through members, and what linking them costs.

Everything runs in this process, by BPF_PROG_TEST_RUN: each contestant in turn, round after round. The clock is the
kernel's, in whole nanoseconds; around the system call it would be that of the grace period of RCU which each one
waits for, 20 ms.
"""

import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from benchmarks.bed import ROOT
from benchmarks.measure import Ratio, nanoseconds, ratio

if TYPE_CHECKING:
    from netbpf.bpf.chain import Counters, Part

SIZES = (1, 2, 5, 10, 32)
REPEAT = 100_000
CALL, LIBRARY = 1.15, 0.050  # aims: times a bare call, for each member; seconds
FILTERS = ("xdp_count", "xdp_globals", "xdp_drop")
# UDP over IPv4, 64 bytes.
PACKET = bytes.fromhex(
    "020000000002020000000001 0800 45000032000000004011 0000 0a0000010a000002 0035003500 1e0000"
).ljust(64, b"\0")
_Add = Callable[[str, str, bool], str]


@dataclass(slots=True)
class Row:
    """One contestant: nanoseconds a packet by number of members, a value for each round."""

    who: str
    times: dict[int, list[float]]

    def median(self, size: int) -> float:
        """Nanoseconds."""
        return statistics.median(self.times[size])

    def each(self) -> list[float]:
        """What a member more costs, in nanoseconds, by round."""
        first, last = SIZES[0], SIZES[-1]
        return [
            (many - one) / (last - first)
            for one, many in zip(self.times[first], self.times[last], strict=True)
        ]


def measure(rounds: int, add: _Add) -> tuple[str, list[dict[str, Any]]]:
    """The lines as text and for JSON; ``add`` notes an aim and says how it is shown. Needs root."""
    with ExitStack() as held:
        nothing = _run(_idle(held), rounds)
        filters = _run(_filters(held), rounds)
    linking, text = _linking(max(rounds // 2, 3), add)
    blocks = [
        _block("chain, members that do nothing", nothing, _aims(nothing, add)),
        _block("chain, real filters", filters, []),
        text,
    ]
    made = [_json("chain: nothing", nothing), _json("chain: filters", filters), linking]
    return "\n\n".join(blocks), made


# --- contestants: programs by name and size ---

Programs = Mapping[str, Mapping[int, Sequence[int]]]


def _idle(held: ExitStack) -> Programs:
    from netbpf.bpf.chain import Counters
    from netbpf.bpf.loader import load
    from netbpf.bpf.object import ObjectSpec
    from netbpf.constants import Hook
    from netns_fixtures.programs import pass_object

    spec = ObjectSpec(pass_object("xdp"), "nothing.o")
    loaded = held.enter_context(load(spec, spec.select(Hook.XDP), Hook.XDP))
    counters = held.enter_context(Counters.create(Hook.XDP))
    empty = loaded.program.fd.fileno()
    found: dict[str, dict[int, Sequence[int]]] = {
        "empty program": {size: [empty] for size in SIZES},
        "bare calls": {size: [_calls(held, size)] for size in SIZES},
        "members alone": {size: [empty] * size for size in SIZES},
    }
    for who, inline in (("netbpf, called", False), ("netbpf", True)):
        parts = [_part(f"m{n}", loaded, n) for n in range(max(SIZES))]
        found[who] = {size: [_chain(held, parts[:size], counters, inline)] for size in SIZES}
    return found


def _filters(held: ExitStack) -> Programs:
    from netbpf.bpf.chain import Counters
    from netbpf.bpf.loader import load
    from netbpf.bpf.object import ObjectSpec
    from netbpf.constants import Hook

    names = [FILTERS[number % len(FILTERS)] for number in range(max(SIZES))]
    loaded = []
    for name in names:
        spec = ObjectSpec.open(ROOT / "netbpf" / "_objects" / f"{name}.bpf.o")
        loaded.append(held.enter_context(load(spec, spec.select(Hook.XDP), Hook.XDP)))
    counters = held.enter_context(Counters.create(Hook.XDP))
    parts = [_part(f"m{n}", one, n) for n, one in enumerate(loaded)]
    # One of each is measured, for all.
    alone = [loaded[names.index(name)].program.fd.fileno() for name in names]
    return {
        "members alone": {size: alone[:size] for size in SIZES},
        "netbpf": {size: [_chain(held, parts[:size], counters, inline=True)] for size in SIZES},
    }


def _part(name: str, loaded: Any, slot: int) -> "Part":
    from netbpf.bpf.chain import Part
    from netbpf.constants import XdpAction

    return Part(name, loaded.spec, loaded.program_spec, loaded.image, (int(XdpAction.PASS),), slot)


def _chain(held: ExitStack, parts: Sequence["Part"], counters: "Counters", inline: bool) -> int:
    from netbpf.bpf.chain import build
    from netbpf.constants import Hook

    with _laid_in(inline):
        return held.enter_context(build(parts, Hook.XDP, counters)).fd.fileno()


@contextmanager
def _laid_in(allowed: bool) -> Iterator[None]:
    """Whether members may be laid into the dispatcher meanwhile."""
    from netbpf.bpf.chain import plan

    kept = plan.lay_out
    if not allowed:
        plan.lay_out = lambda _: plan.Layout(())
    try:
        yield
    finally:
        plan.lay_out = kept


def _calls(held: ExitStack, size: int) -> int:
    """A program that calls so many functions, leaves unless they say XDP_PASS, and counts nothing."""
    from netbpf._sys import bpf as sys_bpf
    from netbpf.bpf import insn as bpf
    from netbpf.bpf.insn import Insn
    from netbpf.constants import AttachType, ProgType

    code = [Insn(bpf.MOV64_REG, 6, 1)]
    function = 1 + 3 * size + 1
    for number in range(size):
        at = 1 + 3 * number
        code += [
            Insn(bpf.MOV64_REG, 1, 6),
            Insn(bpf.CALL, src=bpf.PSEUDO_CALL, imm=function + 2 * number - at - 2),
            Insn(0x55, 0, 0, 3 * (size - number - 1), 2),  # if r0 != XDP_PASS, leave
        ]
    code += [Insn(bpf.EXIT)] + [Insn(bpf.MOV64_IMM, imm=2), Insn(bpf.EXIT)] * size
    request = sys_bpf.ProgLoad(
        ProgType.XDP,
        b"".join(one.pack() for one in code),
        "GPL",
        "bare_calls",
        AttachType.XDP,
    )
    fd, _, log = sys_bpf.prog_load(request, log_size=1 << 16)
    assert fd, log
    return held.enter_context(fd).fileno()


# --- running ---


def _run(programs: Programs, rounds: int) -> dict[str, Row]:
    rows = {who: Row(who, {size: [] for size in SIZES}) for who in programs}
    each = {fd for sizes in programs.values() for fds in sizes.values() for fd in fds}
    order = sorted(each)
    for number in range(rounds + 1):
        turn = order[number % len(order) :] + order[: number % len(order)]
        spent = {fd: nanoseconds(fd, PACKET, REPEAT) for fd in turn}
        if number:
            for who, sizes in programs.items():
                for size, fds in sizes.items():
                    rows[who].times[size].append(float(sum(spent[fd] for fd in fds)))
    return rows


# --- linking ---


def _linking(rounds: int, add: _Add) -> tuple[dict[str, Any], str]:
    """The tenth member: nine that run are parsed and prepared anew from their kept objects, ten linked and loaded."""
    from netbpf._sys import bpf as sys_bpf

    library, kernel = [], []
    with ExitStack() as held:
        again = _tenth(held)
        spent = 0.0
        load = sys_bpf.prog_load

        def timed(*arguments: Any, **options: Any) -> Any:
            nonlocal spent
            start = time.perf_counter()
            try:
                return load(*arguments, **options)
            finally:
                spent += time.perf_counter() - start

        sys_bpf.prog_load = timed
        try:
            for number in range(rounds + 1):
                spent = 0.0
                start = time.perf_counter()
                again()
                total = time.perf_counter() - start
                if number:
                    library.append(total - spent)
                    kernel.append(spent)
        finally:
            sys_bpf.prog_load = load
    middle = statistics.median(library)
    aim = add("tenth member", f"<= {LIBRARY * 1e3:.0f} ms in the library", middle <= LIBRARY)
    text = (
        "chain, the tenth member of real filters\n"
        f"  in the library {middle * 1e3:5.1f} ms: nine parsed and prepared anew, ten linked; {aim}\n"
        f"  in the kernel  {statistics.median(kernel) * 1e3:5.1f} ms: the verifier and the JIT look at all ten"
    )
    return {"name": "chain: tenth member", "library": library, "kernel": kernel}, text


def _tenth(held: ExitStack) -> Callable[[], None]:
    from netbpf.bpf.chain import Counters, build
    from netbpf.bpf.loader import load, prepare
    from netbpf.bpf.map import Map
    from netbpf.bpf.object import ObjectSpec
    from netbpf.constants import Hook

    names = [FILTERS[n % len(FILTERS)] for n in range(10)]
    kept = {name: (ROOT / "netbpf" / "_objects" / f"{name}.bpf.o").read_bytes() for name in FILTERS}
    counters = held.enter_context(Counters.create(Hook.XDP))
    loaded = []
    for name in names:
        spec = ObjectSpec(kept[name], name)
        loaded.append(held.enter_context(load(spec, spec.select(Hook.XDP), Hook.XDP)))
    ids = [{name: one.info.id for name, one in each.maps.items()} for each in loaded]

    def again() -> None:
        with ExitStack() as opened:
            specs = {name: ObjectSpec(data, name) for name, data in kept.items()}
            parts = []
            for number, name in enumerate(names[:-1]):
                maps = {
                    one: opened.enter_context(Map.by_id(found))
                    for one, found in ids[number].items()
                }
                spec = specs[name]
                made = opened.enter_context(
                    prepare(spec, spec.select(Hook.XDP), Hook.XDP, reuse=maps)
                )
                parts.append(_part(f"m{number}", made, number))
            parts.append(_part("m9", loaded[-1], 9))
            opened.enter_context(build(parts, Hook.XDP, counters))

    return again


# --- showing ---


def _aims(rows: dict[str, Row], add: _Add) -> list[str]:
    bare = rows["bare calls"].each()
    shown = []
    for who, aim in (("netbpf, called", CALL), ("netbpf", 1.0)):
        found = ratio(rows[who].each(), bare)
        word = add("chain", f"{who}: <= {aim:g} x a bare call", found.middle <= aim)
        shown.append(
            f"  each member: {who} {statistics.median(rows[who].each()):.2f} ns, a bare call "
            f"{statistics.median(bare):.2f} ns, {_ratio(found)} x; {word}"
        )
    return shown


def _block(title: str, rows: dict[str, Row], aims: list[str]) -> str:
    sizes = "".join(f"{size:>10}" for size in SIZES)
    lines = [f"{title}: ns a packet, by number of members", f"  {'':<16}{sizes}"]
    netbpf = rows["netbpf"]
    lines += [
        f"  {row.who:<16}" + "".join(f"{row.median(size):>10.0f}" for size in SIZES)
        for row in rows.values()
    ]
    if "members alone" in rows:
        alone = rows["members alone"]
        beside = [ratio(netbpf.times[size], alone.times[size]).middle for size in SIZES]
        lines.append(f"  {'netbpf / alone':<16}" + "".join(f"{one:>10.2f}" for one in beside))
    return "\n".join(lines + aims)


def _ratio(found: Ratio) -> str:
    return f"{found.middle:.2f} ({found.low:.2f}-{found.high:.2f})"


def _json(name: str, rows: dict[str, Row]) -> dict[str, Any]:
    return {
        "name": name,
        "contestants": [
            {"who": row.who, "ns": {str(size): row.times[size] for size in SIZES}}
            for row in rows.values()
        ],
    }
