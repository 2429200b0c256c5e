"""``netbpf explain``."""

import click

from netbpf.cli.options import common_options, direction_options, hooks_of


@click.command(
    "explain", short_help="Tell what the programs of an interface do to a packet, and why."
)
@click.argument("words", metavar="[xdp|tc] IFACE [FILE]", nargs=-1)
@click.option(
    "--packet", metavar="EXPR", help='The packet as a scapy expression: "Ether()/IP()/UDP(dport=53)".'
)  # fmt: skip
@click.option(
    "--hex", "digits", metavar="HEX",
    help="The packet in hex digits, or as a dump (hexdump -C, xxd, tcpdump).",
)  # fmt: skip
@click.option(
    "--frame", "--number", "number", type=click.IntRange(min=1), metavar="N",
    help="Only this packet of a capture, in full.",
)  # fmt: skip
@click.option(
    "--limit", type=click.IntRange(min=1), metavar="N", help="Only the first N packets of a capture."
)  # fmt: skip
@direction_options
@common_options
def explain_command(
    words: tuple[str, ...],
    packet: str | None,
    digits: str | None,
    number: int | None,
    limit: int | None,
    direction: str | None,
    as_json: bool,
    netns: str | None,
    verbose: bool,
) -> None:
    """Send packets through copies of the programs that netbpf runs on an interface, and tell what each does, and why.

    The packet is --packet, --hex, or FILE: a capture, hex digits, or the packet itself; - is a capture on standard
    input. It meets XDP first and TC ingress behind it, as on the interface. Nothing that runs there is touched. Of a
    capture the packets that go the same way are told together; -v tells the first of each in full.

    \b
    netbpf explain eth0 --packet "IP(src='10.0.0.7')/UDP(dport=53)"
    netbpf explain eth0 dropped.pcapng
    netbpf explain tc eth0 --egress in.pcap --frame 12
    """
    kind = words[:1] if words[:1] in (("xdp",), ("tc",)) else ()
    rest = words[len(kind) :]
    if not rest:
        raise click.UsageError("name the interface: netbpf explain IFACE")
    if len(rest) > 2:
        raise click.UsageError(f"too many arguments: {' '.join(rest[2:])}")
    hooks, _ = hooks_of((*kind, rest[0]), direction, 1)
    file = rest[1] if len(rest) > 1 else None
    ways = [one for one in (packet, digits, file) if one is not None]
    if len(ways) != 1:
        raise click.UsageError(
            "one packet: give --packet, --hex or a file, and no two of them"
            if ways
            else "no packet: give --packet, --hex or a file"
        )
    if file is None and (number is not None or limit is not None):
        raise click.UsageError("--frame and --limit are for captures")
    from netbpf import api
    from netbpf.cli.progress import capture_bar
    from netbpf.cli.render.explain import print_explain
    from netbpf.cli.replay import remark
    from netbpf.packets.given import from_file, holds_capture
    from netbpf.packets.hextext import from_hex

    capture, data = None, packet
    given: bytes | str | None = data
    if digits is not None:
        given = from_hex(digits)
    elif file is not None and (file == "-" or holds_capture(file)):
        capture = file
    elif file is not None:
        given = from_file(file, number).packet
    with capture_bar("explain") as progress:
        result = api.walk(
            rest[0], given, capture=capture, hooks=hooks, number=number, limit=limit, netns=netns,
            progress=progress,
        )  # fmt: skip
    remark(result.notes, result.warnings)
    for group in result.groups if capture is None or number else ():
        for hook in group.first.hooks:
            for one in hook.members:
                remark((f"{one.name}: {note}" for note in (one.run.notes if one.run else ())), ())
    print_explain(
        result, as_json=as_json, verbose=verbose, one=capture is None or number is not None
    )
