"""The lines: which jobs, and how each contestant does them.

Each peer is called the way its own manual says, with the fewest processes. Where a peer needs two calls for what
netbpf does in one, both are counted, in one shell.
"""

import shlex
from collections.abc import Callable, Iterable

from benchmarks.bed import BPFFS, DEBIAN_PYTHON, HERE, MANY, ROOT, Bed, missing
from benchmarks.measure import Contestant, Line

COMMAND, ATTACH = 10.0, 25.0  # aims, in multiples of a bare `python -c pass`
BARE = "bare kernel call"
ONE, MANY_NAME, MARGINAL = "netbpf, 1 interface", f"attach {MANY} interfaces", 1.5


def lines(bed: Bed) -> dict[str, Callable[[], Line]]:
    """Every line by its short name; made when it is its turn."""
    return {
        "help": lambda: _help(bed),
        "status": lambda: _status(bed),
        "stats": lambda: _stats(bed),
        "get": lambda: _get(bed),
        "set": lambda: _set(bed),
        "compile": lambda: _compile(bed),
        "attach": lambda: _attach(bed),
        "detach": lambda: _detach(bed),
        "attach-detach": lambda: _attach_detach(bed),
        "attach-source": lambda: _attach_source(bed),
        "attach-many": lambda: _attach_many(bed),
    }


def _there(*contestants: Contestant) -> tuple[tuple[Contestant, ...], tuple[str, ...]]:
    """Those whose commands are installed, and a word about each of the others."""
    absent = {
        one.who: missing(_tool(one)) for one in contestants if not one.who.startswith("netbpf")
    }
    gone = [f"{who}: {names[0]} is not installed" for who, names in absent.items() if names]
    return tuple(one for one in contestants if not absent.get(one.who)), tuple(gone)


def _tool(one: Contestant) -> str:
    return one.who.split()[0] if one.who.split()[0] in _TOOLS else one.command[0]


_TOOLS = ("bpftool", "ip", "tc", "xdp-loader", "clang")


def _line(
    name: str, what: str, *contestants: Contestant, at_most: float | None = None, other: Iterable[str] = ()
) -> Line:  # fmt: skip
    there, gone = _there(*contestants)
    return Line(name, what, there, at_most, (*gone, *other))


# --- reading ---


def _help(bed: Bed) -> Line:
    return _line(
        "--help", "the overview of commands",
        Contestant("netbpf", [bed.netbpf, "--help"]),
        Contestant("bpftool", ["bpftool", "help"]),
        at_most=COMMAND, other=("ip, tc, xdp-loader: showing it counts as an error",),
    )  # fmt: skip


def _status(bed: Bed) -> Line:
    return _line(
        "status --json", f"what runs on {2 * MANY + 3} interfaces, two programs in all",
        Contestant("netbpf", [bed.netbpf, "status", "--json"]),
        Contestant("bpftool", ["bpftool", "-j", "net"]),
        Contestant("ip", ["ip", "-d", "-j", "link"], note="XDP only"),
        Contestant("xdp-loader", ["xdp-loader", "status"], note="XDP only, text"),
        at_most=COMMAND,
    )  # fmt: skip


def _stats(bed: Bed) -> Line:
    dumps = "; ".join(f"bpftool -j map dump id {one}" for one in bed.map_ids)
    return _line(
        "stats --json", f"counters of two programs: {len(bed.map_ids)} maps",
        Contestant("netbpf", [bed.netbpf, "stats", "loaded", "--json"]),
        Contestant("bpftool", bed.shell(dumps), note="map dump for each, ids known"),
        at_most=COMMAND, other=("BCC: reads only what it loaded itself",),
    )  # fmt: skip


def _get(bed: Bed) -> Line:
    return _line(
        "get", "one variable",
        Contestant("netbpf", [bed.netbpf, "get", "loaded", "xdp_count.verdict"]),
        Contestant("bpftool", ["bpftool", "-j", "map", "dump", "id", str(bed.rodata_id)], note="id known"),
        at_most=COMMAND,
    )  # fmt: skip


# --- writing ---


def _set(bed: Bed) -> Line:
    bed.call(bed.netbpf, "attach", "xdp", "loaded-peer", str(bed.object))
    return _line(
        "set", "one variable",
        Contestant("netbpf", [bed.netbpf, "set", "loaded-peer", "min_bytes=64"]),
        at_most=COMMAND, other=("bpftool: cannot write one variable of a section",),
    )  # fmt: skip


def _compile(bed: Bed) -> Line:
    source, output = str(ROOT / "xdp" / "xdp_globals.bpf.c"), str(bed.directory / "out.o")
    flags = ["-O2", "-g", "-target", "bpf", "-mcpu=v3", "-I", str(ROOT / "netbpf" / "include")]
    # netbpf's choice of clang and of header directories, so that both do the same work.
    from netbpf.compiler.headers import multiarch
    from netbpf.compiler.toolchain import find_clang

    clang, machine = str(find_clang()), multiarch()
    flags += ["-idirafter", str(machine)] if machine else []
    return _line(
        "compile", "one source; clang's own time is in both",
        Contestant("netbpf", [bed.netbpf, "compile", source, "-o", output]),
        Contestant("clang alone", [clang, *flags, "-c", source, "-o", output]),
        at_most=COMMAND,
    )  # fmt: skip


def _calling(bed: Bed, *command: str) -> Callable[[], None]:
    def call() -> None:
        bed.call(*command)

    return call


def _off(bed: Bed, *names: str) -> Callable[[], None]:
    """Takes off whatever is on interfaces, however it came there."""

    def off() -> None:
        if bed.setlink:
            bed.call(bed.setlink, "off", *names)
        else:
            for name in names:
                bed.call("ip", "link", "set", "dev", name, "xdpdrv", "off")

    return off


def _unpinned(bed: Bed, off: Callable[[], None]) -> Callable[[], None]:
    def undo() -> None:
        off()
        bed.pin.unlink()

    return undo


def _netbpf_off(bed: Bed) -> Callable[[], None]:
    return _calling(bed, bed.netbpf, "detach", "--all", "xdp", "b0")


def _commands(bed: Bed) -> dict[str, tuple[str, str]]:
    """Attaching and detaching one ready object on b0, by peer."""
    obj, pin = shlex.quote(str(bed.object)), bed.pin
    return {
        "bpftool": (
            f"bpftool prog load {obj} {pin} type xdp; bpftool net attach xdpdrv pinned {pin} dev b0",
            f"bpftool net detach xdpdrv dev b0; rm {pin}",
        ),
        "ip": (
            f"ip link set dev b0 xdpdrv obj {obj} sec {bed.section}",
            "ip link set dev b0 xdpdrv off",
        ),
        "xdp-loader": (
            f"xdp-loader load -m native b0 {obj}",
            "xdp-loader unload b0 --all",
        ),
    }


def _attach(bed: Bed) -> Line:
    off, commands = _off(bed, "b0"), _commands(bed)
    undo = {
        "bpftool": _unpinned(bed, off),
        "ip": off,
        "xdp-loader": _shell(bed, commands["xdp-loader"][1]),
    }
    return _line(
        "attach", "a ready object to one interface, native XDP",
        Contestant("netbpf", [bed.netbpf, "attach", "xdp", "b0", str(bed.object)], after=_netbpf_off(bed)),
        *(Contestant(who, bed.shell(on), after=undo[who]) for who, (on, _) in commands.items()),
        at_most=ATTACH,
    )  # fmt: skip


def _shell(bed: Bed, script: str) -> Callable[[], None]:
    return _calling(bed, *bed.shell(script))


def _detach(bed: Bed) -> Line:
    def attach() -> None:
        bed.call(bed.netbpf, "attach", "xdp", "b0", str(bed.object))

    commands = _commands(bed)
    return _line(
        "detach", "from one interface",
        Contestant("netbpf", [bed.netbpf, "detach", "xdp", "b0"], before=attach, note="verified afterwards"),
        *(Contestant(who, bed.shell(off), before=_shell(bed, on)) for who, (on, off) in commands.items()),
        at_most=COMMAND,
    )  # fmt: skip


def _attach_detach(bed: Bed) -> Line:
    both = f"{bed.netbpf} attach xdp b0 {shlex.quote(str(bed.object))}; {bed.netbpf} detach xdp b0"
    return _line(
        "attach + detach", "a ready object, one interface",
        Contestant("netbpf", bed.shell(both), note="two processes"),
        *(Contestant(who, bed.shell(f"{on}; {off}")) for who, (on, off) in _commands(bed).items()),
        at_most=ATTACH + COMMAND, other=("BCC: has no ready objects, see the next line",),
    )  # fmt: skip


def _attach_source(bed: Bed) -> Line:
    source = str(HERE / "count.bcc.c")
    both = f"{bed.netbpf} attach xdp b0 {source} --frontend bcc; {bed.netbpf} detach xdp b0"
    contestants = [Contestant("netbpf", bed.shell(both), note="object from its cache")]
    absent = _bcc_missing(bed)
    if not absent:
        from netbpf.compiler.headers import kernel_tree

        tree = kernel_tree()
        contestants.append(
            Contestant(
                "BCC", ["env", f"BCC_KERNEL_SOURCE={tree.source}", DEBIAN_PYTHON, str(HERE / "bcc_count.py"), source,
                        "b0", *tree.include_flags()],
                note="compiles each time",
            )
        )  # fmt: skip
    return _line(
        "BCC source", "attach + detach of a source in BCC's dialect",
        *contestants, other=[absent] if absent else [],
    )  # fmt: skip


def _bcc_missing(bed: Bed) -> str:
    from benchmarks.measure import BenchmarkError

    try:
        bed.call(DEBIAN_PYTHON, "-c", "import bcc")
    except BenchmarkError:
        return "BCC: python3-bpfcc is not installed"
    return ""


# --- many interfaces ---


def _attach_many(bed: Bed) -> Line:
    obj, names = shlex.quote(str(bed.object)), " ".join(bed.many)
    off = _off(bed, *bed.many)
    pin = bed.pin

    def load() -> None:
        bed.call("bpftool", "prog", "load", str(bed.object), str(pin), "type", "xdp")

    def netbpf_off(pattern: str) -> Callable[[], None]:
        return _calling(bed, bed.netbpf, "detach", "--all", "xdp", *pattern.split())

    contestants = [
        Contestant("netbpf", [bed.netbpf, "attach", "xdp", "b*", str(bed.object)], after=netbpf_off(""),
                   before=lambda: _only_loaded(bed), note="one call"),
        Contestant(ONE, [bed.netbpf, "attach", "xdp", "b0", str(bed.object)], after=netbpf_off("b0"), extra=True),
        Contestant(
            "bpftool", bed.shell(
                f"bpftool prog load {obj} {pin} type xdp; "
                f"for i in {names}; do bpftool net attach xdpdrv pinned {pin} dev $i; done"),
            after=_unpinned(bed, off), note="load once, then a loop"),
        Contestant(
            "ip", bed.shell(f"for i in {names}; do ip link set dev $i xdpdrv obj {obj} sec {bed.section}; done"),
            after=off, note="loop"),
        Contestant(
            "xdp-loader", bed.shell(f"for i in {names}; do xdp-loader load -m native $i {obj}; done"),
            after=_shell(bed, f"for i in {names}; do xdp-loader unload $i --all; done"), note="loop"),
    ]  # fmt: skip
    other = []
    if bed.setlink and BPFFS.is_dir() and not missing("bpftool"):
        contestants.append(
            Contestant(BARE, [bed.setlink, str(pin), *bed.many], before=load, after=_unpinned(bed, off),
                       reads_own_clock=True, note="the system calls alone, in C")
        )  # fmt: skip
    else:
        other.append(f"{BARE}: needs a C compiler, bpftool and {BPFFS}")
    return _line(
        MANY_NAME, "one object, native XDP; netbpf shares one loaded program",
        *contestants, at_most=None, other=other,
    )  # fmt: skip


def _only_loaded(bed: Bed) -> None:
    """The one call's undoing is `detach --all xdp`, so nothing else of netbpf's may be on an XDP hook."""
    bed.call(bed.netbpf, "detach", "--all", "--ignore-missing", "xdp")
