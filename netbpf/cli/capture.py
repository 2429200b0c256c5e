"""``netbpf capture``."""

import click

from netbpf.cli.options import common_options, direction_options, hooks_of, lock_option


@click.command("capture", short_help="Show packets at a hook with the verdict they got.")
@click.argument("words", metavar="[xdp|tc] IFACE [FILTER]...", nargs=-1)
@direction_options
@click.option(
    "-w", "--write", "output", metavar="FILE",
    help="Write pcapng, with verdicts, instead of text; - is standard output.",
)  # fmt: skip
@click.option("--verdict", metavar="VERDICT,...", help="Only packets that got one of these.")
@click.option("--member", metavar="MEMBER", help="What came to one member, and what it said.")
@click.option("-c", "--count", type=click.IntRange(min=1), metavar="N", help="End after N packets.")
@click.option(
    "--snaplen", type=click.IntRange(1, 262_144), default=65_535, show_default=True, metavar="BYTES",
    help="How much of a packet to keep.",
)  # fmt: skip
@click.option(
    "--buffer", type=click.IntRange(1, 1024), default=16, show_default=True, metavar="MIB",
    help="Room for what has not been read yet, a power of two.",
)  # fmt: skip
@click.option(
    "--mode", type=click.Choice(["native", "skb"]),
    help="XDP, where nothing runs yet: how to attach [default: native, or skb where that cannot be].",
)  # fmt: skip
@lock_option
@common_options
def capture_command(
    words: tuple[str, ...],
    direction: str | None,
    output: str | None,
    verdict: str | None,
    member: str | None,
    count: int | None,
    snaplen: int,
    buffer: int,
    mode: str | None,
    lock_timeout: float,
    as_json: bool,
    netns: str | None,
    verbose: bool,
) -> None:
    """Show packets at a hook with what became of them, also those that were dropped, until Ctrl-C.

    FILTER is an expression as tcpdump takes it; it runs in the kernel, and only what matches is copied. A packet is
    shown as it came to the hook, with the verdict that it left with and the member that gave it. When the command ends,
    in whatever way, the hook runs again what it ran before.

    \b
    netbpf capture eth0 --verdict drop
    netbpf capture eth0 --member acl 'udp port 53'
    netbpf capture eth0 -w - | wireshark -k -i -
    """
    from netbpf import api
    from netbpf.cli.render.capture import show

    if output is not None and as_json:
        raise click.UsageError("-w and --json cannot both be meant")
    kind = words[:1] if words[:1] in (("xdp",), ("tc",)) else ()
    rest = words[len(kind) :]
    if not rest:
        raise click.UsageError("name the interface: netbpf capture IFACE [FILTER]")
    if verdict is not None and not verdict.strip(", "):
        raise click.UsageError("--verdict names none, such as drop or drop,aborted")
    hooks, _ = hooks_of((*kind, rest[0]), direction, 1)
    capture = api.capture(
        rest[0],
        " ".join(rest[1:]),
        hooks,
        member=member or "",
        verdicts=[one for one in map(str.strip, (verdict or "").split(",")) if one],
        snaplen=snaplen,
        buffer=buffer,
        mode=mode,
        netns=netns,
        lock_timeout=lock_timeout,
    )
    with capture:
        show(capture, output, count, as_json=as_json)
