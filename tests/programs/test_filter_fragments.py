"""xdp_drop and tc_drop: what is seen of fragments. Only the first has the transport header with the ports."""

import pytest

from tests.programs.filters import MALFORMED, InTestRun, OnWire, drop
from tests.programs.frames import (
    DEST_OPTIONS,
    ETHERNET,
    IPV4,
    IPV6,
    SENDER,
    TCP_NUMBER,
    UDP_NUMBER,
    Ext,
    authenticated4,
    changed,
    ext,
    extended,
    fragment,
    tcp4,
)

FIRST4, LATER4 = tcp4(flags="MF"), tcp4(frag=185)
MIDDLE4 = tcp4(flags="MF", frag=185)
UNFRAGMENTED4 = tcp4(flags="DF")


def fragment6(offset: int, more: int, before: tuple[Ext, ...] = ()) -> bytes:
    return extended([*before, fragment(offset, more)])


def test_the_first_fragment_has_ports(any_filter: InTestRun) -> None:
    any_filter.rules(drop("tcp_dport[80]", 7))
    any_filter.drops(FIRST4, UNFRAGMENTED4, fragment6(0, 1), fragment6(0, 0), by=7)


@pytest.mark.parametrize("place", ["tcp_sport[1000]", "tcp_dport[80]"])
def test_what_lies_where_a_later_fragment_would_have_ports_is_not_read(
    any_filter: InTestRun, place: str
) -> None:
    any_filter.rules(drop(place, 7))
    any_filter.passes(LATER4, MIDDLE4, *(tcp4(frag=1 << bit) for bit in range(13)))
    any_filter.passes(fragment6(185, 1), *(fragment6(1 << bit, 0) for bit in range(13)))
    any_filter.passes(fragment6(185, 1, (ext(DEST_OPTIONS),)))


@pytest.mark.parametrize("place", ["proto[6]", f"src_mac[{SENDER}]"])
def test_a_later_fragment_matches_by_protocol_and_mac(any_filter: InTestRun, place: str) -> None:
    any_filter.rules(drop(place, 7))
    any_filter.drops(LATER4, MIDDLE4, fragment6(185, 1), fragment6(1, 0), by=7)


def test_a_later_fragment_matches_by_address(any_filter: InTestRun) -> None:
    any_filter.rules(drop("src4[10.1.2.3/32]", 4), drop("dst6[2001:db8:1::/48]", 6))
    any_filter.drops(LATER4, MIDDLE4, by=4)
    any_filter.drops(fragment6(185, 1), by=6)


def test_a_later_fragment_of_one_byte_is_not_malformed(any_filter: InTestRun) -> None:
    end4, end6 = ETHERNET + IPV4, ETHERNET + IPV6 + 8
    any_filter.passes(
        LATER4[: end4 + 1], LATER4[:end4], fragment6(9, 0)[: end6 + 1], fragment6(9, 0)[:end6]
    )


def test_behind_a_later_fragment_there_are_no_extension_headers(any_filter: InTestRun) -> None:
    """The number names what the first fragment has there; here are bytes from its middle."""
    later = extended([fragment(9, 0)], DEST_OPTIONS, b"\x06")
    any_filter.passes(later)
    any_filter.rules(drop("proto[60]", 60))
    any_filter.drops(later, by=60)
    # AH over IPv4 too.
    any_filter.passes(changed(authenticated4(), ETHERNET + 7, 5))


def test_a_first_fragment_without_its_ports_is_malformed(any_filter: InTestRun) -> None:
    end4, end6 = ETHERNET + IPV4, ETHERNET + IPV6 + 8
    for cut in range(4):
        any_filter.drops(FIRST4[: end4 + cut], fragment6(0, 1)[: end6 + cut], by=MALFORMED)
    any_filter.passes(FIRST4[: end4 + 4], fragment6(0, 1)[: end6 + 4])


@pytest.mark.attach_kinds("all")
def test_fragments_on_a_wire(packet_filter: OnWire) -> None:
    packet_filter.rules(drop("tcp_dport[80]", 7))
    packet_filter.drops(FIRST4, fragment6(0, 1), by=7)
    packet_filter.passes(LATER4, fragment6(185, 0))
    packet_filter.drops(FIRST4[: ETHERNET + IPV4 + 3], by=MALFORMED)
    packet_filter.rules(drop(f"proto[{UDP_NUMBER}]", 8), drop(f"proto[{TCP_NUMBER}]", 9))
    packet_filter.drops(LATER4, fragment6(185, 0), by=9)
