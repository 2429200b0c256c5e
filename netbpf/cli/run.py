"""``netbpf run``."""

from typing import TYPE_CHECKING

import click

from netbpf.cli.coverage import Wanted, coverage_options
from netbpf.cli.options import common_options, source_options

if TYPE_CHECKING:
    from netbpf.compiler.result import Options
    from netbpf.packets.context import Context
    from netbpf.packets.given import Given

_ETHERTYPES = {
    "ip": 0x0800, "ipv4": 0x0800, "arp": 0x0806, "ipv6": 0x86DD, "vlan": 0x8100, "8021q": 0x8100, "8021ad": 0x88A8,
    "mpls": 0x8847,
}  # fmt: skip
_PROTOCOL_BITS = 16


def _number(text: str | None, option: str, bits: int = 32) -> int:
    """A number in decimal or hex digits; click.BadParameter for what is none or too large."""
    if not text:
        return 0
    if bits == _PROTOCOL_BITS and text.lower() in _ETHERTYPES:
        return _ETHERTYPES[text.lower()]
    try:
        found = int(text, 0)
    except ValueError:
        known = f" and none of {', '.join(_ETHERTYPES)}" if bits == _PROTOCOL_BITS else ""
        raise click.BadParameter(f"{text!r} is no number{known}", param_hint=option) from None
    if not 0 <= found < 1 << bits:
        raise click.BadParameter(f"{text} does not fit into {bits} bits", param_hint=option)
    return found


@click.command("run", short_help="Send one packet through a program.")
@click.argument("source", metavar="OBJECT")
@click.argument("file", metavar="[FILE]", required=False)
@click.option(
    "--packet",
    metavar="EXPR",
    help='The packet as a scapy expression: "Ether()/IP()/UDP(dport=53)".',
)
@click.option(
    "--hex",
    "digits",
    metavar="HEX",
    help="The packet in hex digits, or as a dump (hexdump -C, xxd, tcpdump).",
)
@click.option(
    "--number",
    type=click.IntRange(min=1),
    metavar="N",
    help="Which packet of a capture [default: first].",
)
@click.option(
    "-n",
    "--program",
    metavar="NAME",
    help="Which program of the object, by function or section name.",
)
@click.option(
    "--hook",
    "kind",
    type=click.Choice(["xdp", "tc"]),
    help="What the program is for, where its section does not say.",
)
@click.option(
    "--set",
    "settings",
    metavar="VAR=VALUE",
    multiple=True,
    help="Set a global variable before loading.",
)
@click.option(
    "--map-size",
    "map_sizes",
    metavar="MAP=N",
    multiple=True,
    help="Make a map with N entries; N may be 'cpus'.",
)
@click.option(
    "--repeat",
    type=click.IntRange(1, (1 << 32) - 1),
    default=1,
    metavar="N",
    help="Run it N times more, and show the mean time.",
)
@click.option(
    "--ifindex",
    "interface",
    metavar="IFACE",
    help="The interface it comes in on, by name or index.",
)
@click.option("--rx-queue", metavar="N", help="xdp: the receive queue, with --ifindex.")
@click.option(
    "--meta", metavar="HEX", help="xdp: metadata before the packet, a multiple of 4 bytes."
)
@click.option("--mark", metavar="N", help="tc: skb->mark.")
@click.option("--priority", metavar="N", help="tc: skb->priority.")
@click.option("--cb", metavar="N,...", help="tc: up to five words of skb->cb.")
@click.option(
    "--protocol",
    metavar="TYPE",
    help="tc: skb->protocol, such as ipv6 or 0x86dd; written into the packet, from which the kernel takes it.",
)
@source_options
@click.option("--btf", "kernel_btf", metavar="FILE", help="Kernel types to relocate against.")
@coverage_options
@common_options
def run_command(
    source: str,
    file: str | None,
    packet: str | None,
    digits: str | None,
    number: int | None,
    program: str | None,
    kind: str | None,
    settings: tuple[str, ...],
    map_sizes: tuple[str, ...],
    repeat: int,
    interface: str | None,
    rx_queue: str | None,
    meta: str | None,
    mark: str | None,
    priority: str | None,
    cb: str | None,
    protocol: str | None,
    kernel_btf: str | None,
    as_json: bool,
    netns: str | None,
    verbose: bool,
    compiler: "Options",
    coverage: Wanted,
) -> None:
    """Send one packet through a program, which is attached to nothing, and show what came of it.

    OBJECT is an object file, a C source or builtin:NAME. The packet is --packet, --hex, or FILE: a capture, hex digits,
    or the packet itself; - is standard input. A program for xdp or tc is told by its section. -v adds a hex dump.

    \b
    netbpf run prog.o --packet "Ether()/IP(dst='10.0.0.1')/UDP(dport=53)"
    netbpf run prog.bpf.c --hex "ff ff ff ff ff ff 02 00 00 00 00 01 08 06"
    netbpf run builtin:xdp_drop in.pcap --number 12 --repeat 1000000
    """
    given = _given(packet, digits, file, number)
    from netbpf import api
    from netbpf.cli.progress import patience
    from netbpf.cli.render.run import print_run

    context = _context(rx_queue, meta, mark, priority, cb, protocol)
    with patience("the program is running"), coverage.collecting():
        result = api.run(
            source,
            given.packet,
            program=program,
            hook=api.hook_of(kind) if kind else None,  # type: ignore[arg-type]
            context=context,
            interface=interface,
            repeat=repeat,
            settings=settings,
            map_sizes=map_sizes,
            netns=netns,
            compiler=compiler,
            kernel_btf=kernel_btf,
        )
    print_run(result, given.notes, as_json=as_json, verbose=verbose, more=coverage.json())
    coverage.show(as_json=as_json, verbose=verbose)


def _given(packet: str | None, digits: str | None, file: str | None, number: int | None) -> "Given":
    ways = [one for one in (packet, digits, file) if one is not None]
    if not ways:
        raise click.UsageError("no packet: give --packet, --hex or a file")
    if len(ways) > 1:
        raise click.UsageError("one packet: give --packet, --hex or a file, and no two of them")
    from netbpf.packets.given import Given, from_file

    if file is not None:
        return from_file(file, number)
    if number is not None:
        raise click.UsageError("--number is for captures")
    if digits is not None:
        from netbpf.packets.hextext import from_hex

        return Given(from_hex(digits))
    from netbpf.packets.expression import read_expression

    return Given(read_expression(packet or ""))


def _context(
    rx_queue: str | None,
    meta: str | None,
    mark: str | None,
    priority: str | None,
    cb: str | None,
    protocol: str | None,
) -> "Context":
    from netbpf.packets.context import Context
    from netbpf.packets.hextext import from_hex

    return Context(
        rx_queue=_number(rx_queue, "--rx-queue"),
        meta=from_hex(meta) if meta else b"",
        mark=_number(mark, "--mark"),
        priority=_number(priority, "--priority"),
        cb=tuple(_number(word, "--cb") for word in cb.split(",")) if cb else (),
        protocol=_number(protocol, "--protocol", _PROTOCOL_BITS),
    )
