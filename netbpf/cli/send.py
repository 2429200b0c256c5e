"""``netbpf send``."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import TYPE_CHECKING, Final

import click

from netbpf.cli.options import common_options

if TYPE_CHECKING:
    _Parameter = click.ParamType[float]
else:
    _Parameter = click.ParamType  # generic only since click 8.3

_UNITS: Final = {"k": 1e3, "m": 1e6, "g": 1e9}  # nobody sends thousandths of packets


class Rate(_Parameter):
    """Packets per second: ``1000``, ``10k``, ``1.5M``, or ``max``, which is 0."""

    name = "rate"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """Parse it."""
        text = str(value).strip()
        if text == "max":
            return 0.0
        unit = _UNITS.get(text[-1:].lower(), 1.0)
        try:
            number = float(text[:-1] if unit > 1 else text)
        except ValueError:
            number = -1.0
        if not 0 < number * unit < 1e10:
            self.fail(f"{text!r} is no rate such as 500, 10k, 1.5M or max", param, ctx)
        return number * unit


@click.command("send", short_help="Send packets or a capture out of an interface.")
@click.argument("interface", metavar="IFACE")
@click.argument("capture", metavar="[CAPTURE]", required=False)
@click.option(
    "--packet", "expressions", metavar="EXPR", multiple=True,
    help="A scapy expression; its fields may have several values. Again: more packets, in turn.",
)  # fmt: skip
@click.option("--hex", "texts", metavar="HEX", multiple=True, help="A packet in hex.")
@click.option(
    "--count", type=click.IntRange(min=0), metavar="N",
    help="How many packets, going round; 0: until Ctrl-C. Otherwise each packet once.",
)  # fmt: skip
@click.option(
    "--loop", "loops", type=click.IntRange(min=0), default=1, show_default=True, metavar="N",
    help="How often the capture is sent; 0: until Ctrl-C.",
)  # fmt: skip
@click.option(
    "--rate", type=Rate(), metavar="PPS",
    help="Packets per second (500, 10k, 1.5M), or max. Otherwise as recorded; packets: 1000.",
)  # fmt: skip
@click.option(
    "--speed", type=click.FloatRange(min=0, min_open=True), default=None, metavar="X",
    help="A capture X times as fast as recorded.",
)  # fmt: skip
@click.option("--xdp", is_flag=True, help="Send XDP frames: millions a second (Linux 5.18).")
@click.option(
    "--batch", type=click.IntRange(1, 256), default=64, show_default=True, metavar="N",
    help="With --xdp: frames made at a time.",
)  # fmt: skip
@click.option(
    "--qdisc-bypass", "bypass", is_flag=True, help="Go past the queueing discipline of the interface."
)  # fmt: skip
@click.option(
    "--sequence", is_flag=True, help="Write a number into each packet; checksums stay right."
)
@click.option(
    "--expect", metavar="IFACE",
    help="Where the packets arrive: counts them, and what was lost. Exit code 1 for a loss.",
)  # fmt: skip
@click.option("--expect-netns", metavar="NS", help="The namespace of that interface.")
@click.option(
    "--wait", type=click.FloatRange(min=0), default=1.0, show_default=True, metavar="SECONDS",
    help="With --expect: how long to wait for the next packet before the rest is lost.",
)  # fmt: skip
@common_options
def send_command(
    interface: str,
    capture: str | None,
    expressions: tuple[str, ...],
    texts: tuple[str, ...],
    count: int | None,
    loops: int,
    rate: float | None,
    speed: float | None,
    xdp: bool,
    batch: int,
    bypass: bool,
    sequence: bool,
    expect: str | None,
    expect_netns: str | None,
    wait: float,
    as_json: bool,
    netns: str | None,
    verbose: bool,
) -> int:
    """Send packets, or those of a capture, out of an interface.

    CAPTURE is a pcap or pcapng of Ethernet frames, also gzipped; - is standard input. What is sent carries what it
    says: addresses are those of the packet, not of the interface.

    \b
    netbpf send eth0 --packet "Ether(dst='02:00:00:00:00:02')/IP(dst='10.0.0.2')/UDP(dport=53)"
    netbpf send eth0 in.pcap --rate 10k --loop 0
    netbpf send eth0 --packet "IP()/UDP(dport=(1,99))" --xdp --rate max --count 0 --expect eth1
    """
    from netbpf import api
    from netbpf.cli.progress import count_bar
    from netbpf.cli.render.send import print_send
    from netbpf.packets.hextext import from_hex

    if (capture is None) == (not (expressions or texts)):
        raise click.UsageError("expected a CAPTURE, or packets with --packet or --hex")
    if capture is None and (speed is not None or loops != 1):
        raise click.UsageError("--speed and --loop are for a CAPTURE; packets go round by --count")
    if speed is not None and (rate is not None or xdp):
        raise click.UsageError("--speed is for recorded times: without --rate and --xdp")
    if loops != 1 and count is not None:
        raise click.UsageError("say either --loop or --count")
    if expect_netns is not None and expect is None:
        raise click.UsageError("--expect-netns is for --expect")
    with _stopped_by_signals() as (stop, numbers), count_bar("send") as progress:
        result = api.send(
            interface,
            [*expressions, *map(from_hex, texts)],
            capture=capture,
            count=count,
            loops=loops,
            rate=rate,
            speed=speed or 1.0,
            xdp=xdp,
            batch=batch,
            bypass=bypass,
            sequence=sequence,
            expect=expect,
            expect_netns=expect_netns,
            wait=wait,
            netns=netns,
            progress=progress,
            stop=stop,
        )
    for warning in result.warnings:
        click.echo(f"netbpf: warning: {warning}", err=True)
    print_send(result, as_json=as_json)
    if numbers:
        return 128 + numbers[0]
    return 1 if result.arrivals is not None and not result.arrivals.whole else 0


@contextmanager
def _stopped_by_signals() -> Iterator[tuple[threading.Event, list[int]]]:
    """An event that Ctrl-C and SIGTERM set, so that what was sent is counted and shown; the second one ends at once."""
    stop, numbers = threading.Event(), list[int]()

    def handler(number: int, _: FrameType | None) -> None:
        if numbers:
            raise KeyboardInterrupt
        numbers.append(number)
        stop.set()

    before = {}
    if threading.current_thread() is threading.main_thread():
        before = {one: signal.signal(one, handler) for one in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop, numbers
    finally:
        for number, old in before.items():
            signal.signal(number, old)
