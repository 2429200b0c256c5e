"""Hypothesis strategies for packets: whole frames as bytes, as ``rig.send`` and ``bench`` take them.

``packets()`` is everything together. Its parts are strategies of their own: ``valid``, ``truncated``,
``vlan_stacked``, ``with_extension_headers``, ``fragments`` and ``fragmented``. Arguments are values or strategies::

    @given(strategies.valid(protocol="udp", dport=53))
    @given(strategies.truncated(strategies.vlan_stacked()))

MACs are those of the wire, addresses from ranges for documentation (RFC 5737, RFC 3849), unless they are given.
"""

import ipaddress
from collections.abc import Sequence
from typing import Final, TypeAlias, TypeVar

from hypothesis import assume
from hypothesis import strategies as st
from hypothesis.strategies import DrawFn, SearchStrategy

from netns_fixtures import wire_format as wf
from netns_fixtures.bench import SOURCE_MAC, TARGET_MAC
from netns_fixtures.frames import ETHERNET_HEADER, mac_bytes

T = TypeVar("T")
Frames = SearchStrategy[bytes]

FAMILIES: Final = ("ipv4", "ipv6")
PROTOCOLS: Final = ("tcp", "udp", "icmp")
TPIDS: Final = (wf.ETH_P_8021Q, wf.ETH_P_8021AD)
MTU: Final = 1500  # bytes behind the Ethernet header
_Network: TypeAlias = ipaddress.IPv4Network | ipaddress.IPv6Network
_NETWORKS: Final[dict[int, tuple[_Network, ...]]] = {
    4: tuple(map(ipaddress.IPv4Network, ("192.0.2.0/24", "198.51.100.0/24", "203.0.113.0/24"))),
    6: (ipaddress.IPv6Network("2001:db8::/32"),),
}
_EXTENSIONS: Final = (wf.HOP_BY_HOP, wf.ROUTING, wf.DEST_OPTIONS, wf.AUTH)
# What a port field is likely to be mistaken at.
_PORTS: Final = (0, 1, 22, 53, 67, 80, 443, 1023, 1024, 5353, 8080, 32767, 32768, 65534, 65535)


def _as_strategy(
    value: "T | SearchStrategy[T] | None", default: SearchStrategy[T]
) -> SearchStrategy[T]:
    if value is None:
        return default
    return value if isinstance(value, SearchStrategy) else st.just(value)


# --- parts ---------------------------------------------------------------------------------------


def macs() -> SearchStrategy[bytes]:
    """Unicast, multicast and broadcast addresses, of any vendor or locally administered."""
    return st.one_of(st.binary(min_size=6, max_size=6), st.just(b"\xff" * 6))


def ports() -> SearchStrategy[int]:
    """Any port, with a liking for the ends of the range and for well-known ones."""
    return st.one_of(st.sampled_from(_PORTS), st.integers(0, 0xFFFF))


def addresses(version: int) -> SearchStrategy[wf.Address]:
    """Addresses of networks for documentation."""

    def of(network: _Network) -> SearchStrategy[wf.Address]:
        return st.integers(0, min(network.num_addresses, 1 << 64) - 1).map(
            lambda host: network[host]
        )

    return st.one_of(*(of(network) for network in _NETWORKS[version]))


@st.composite
def _upper(
    draw: DrawFn,
    version: int,
    protocol: "str | SearchStrategy[str] | None",
    sport: "int | SearchStrategy[int] | None",
    dport: "int | SearchStrategy[int] | None",
    payload: "bytes | SearchStrategy[bytes] | None",
) -> wf.Upper:
    kind = draw(_as_strategy(protocol, st.sampled_from(PROTOCOLS)))
    data = draw(_as_strategy(payload, st.binary(max_size=64)))
    if kind == "icmp":
        # Echo request and reply: of other messages the payload would have to have a form.
        types = (0, 8) if version == 4 else (128, 129)
        return wf.icmp(draw(st.sampled_from(types)), 0, bytes(4) + data, version=version)
    if kind not in PROTOCOLS:
        raise ValueError(f"no protocol {kind!r}; there are {', '.join(PROTOCOLS)}")
    source, target = draw(_as_strategy(sport, ports())), draw(_as_strategy(dport, ports()))
    if kind == "udp":
        return wf.udp(source, target, data)
    options = bytes([1]) * (4 * draw(st.integers(0, 10)))  # NOP
    return wf.tcp(source, target, draw(st.integers(0, 0x3F)), data, options)


@st.composite
def _packet(
    draw: DrawFn,
    family: "str | SearchStrategy[str] | None",
    protocol: "str | SearchStrategy[str] | None",
    src: "str | SearchStrategy[str] | None",
    dst: "str | SearchStrategy[str] | None",
    sport: "int | SearchStrategy[int] | None",
    dport: "int | SearchStrategy[int] | None",
    payload: "bytes | SearchStrategy[bytes] | None",
    extensions: tuple[int, int],
) -> "tuple[wf.Address, wf.Address, int, bytes, int, bytes]":
    """(source, destination, protocol, bytes behind the IP header, TTL, IPv4 options)."""
    version = _version(draw, family, src, dst)
    ends = [
        draw(addresses(version)) if one is None else ipaddress.ip_address(draw(_as_strategy(one, st.nothing())))
        for one in (src, dst)
    ]  # fmt: skip
    upper = draw(_upper(version, protocol, sport, dport, payload))
    number, data = upper.protocol, upper.summed(*ends)
    if version == 6 and extensions[1]:
        headers = draw(st.lists(_extensions(), min_size=extensions[0], max_size=extensions[1]))
        # RFC 8200 4.1: hop-by-hop options come first, and only there.
        headers = [one for at, one in enumerate(headers) if at == 0 or one.number != wf.HOP_BY_HOP]
        number, data = wf.chained(headers, number, data)
    options = bytes([1]) * (4 * draw(st.integers(0, 10))) if version == 4 else b""
    return ends[0], ends[1], number, data, draw(st.integers(1, 255)), options


def _version(
    draw: DrawFn,
    family: "str | SearchStrategy[str] | None",
    src: "str | SearchStrategy[str] | None",
    dst: "str | SearchStrategy[str] | None",
) -> int:
    given = [one for one in (src, dst) if isinstance(one, str)]
    if given and family is None:
        return ipaddress.ip_address(given[0]).version
    name = draw(_as_strategy(family, st.sampled_from(FAMILIES)))
    if name not in FAMILIES:
        raise ValueError(f"no family {name!r}; there are {', '.join(FAMILIES)}")
    return 4 if name == "ipv4" else 6


def _extensions() -> SearchStrategy[wf.Extension]:
    return st.builds(wf.extension, st.sampled_from(_EXTENSIONS), st.integers(0, 3))


def _framed(version: int, packet: bytes) -> bytes:
    kind = wf.ETH_P_IP if version == 4 else wf.ETH_P_IPV6
    return wf.ethernet(mac_bytes(TARGET_MAC), mac_bytes(SOURCE_MAC), kind, packet)


# --- packets -------------------------------------------------------------------------------------


@st.composite
def valid(
    draw: DrawFn,
    *,
    family: "str | SearchStrategy[str] | None" = None,
    protocol: "str | SearchStrategy[str] | None" = None,
    src: "str | SearchStrategy[str] | None" = None,
    dst: "str | SearchStrategy[str] | None" = None,
    sport: "int | SearchStrategy[int] | None" = None,
    dport: "int | SearchStrategy[int] | None" = None,
    payload: "bytes | SearchStrategy[bytes] | None" = None,
) -> bytes:
    """A well-formed frame: IPv4 (with options) or IPv6, TCP (with options), UDP or an echo; all checksums right.

    ``family`` is "ipv4" or "ipv6", ``protocol`` "tcp", "udp" or "icmp"; an address says the family by itself.
    """
    source, target, number, data, ttl, options = draw(
        _packet(family, protocol, src, dst, sport, dport, payload, (0, 0))
    )
    if source.version == 4:
        return _framed(4, wf.ipv4(source, target, number, data, ttl=ttl, options=options))
    return _framed(6, wf.ipv6(source, target, number, data, hops=ttl))


@st.composite
def with_extension_headers(
    draw: DrawFn,
    *,
    most: int = 6,
    protocol: "str | SearchStrategy[str] | None" = None,
    sport: "int | SearchStrategy[int] | None" = None,
    dport: "int | SearchStrategy[int] | None" = None,
) -> bytes:
    """IPv6 with 1 to ``most`` extension headers (options, routing, AH) before TCP, UDP or an echo."""
    source, target, number, data, ttl, _ = draw(
        _packet("ipv6", protocol, None, None, sport, dport, None, (1, most))
    )
    return _framed(6, wf.ipv6(source, target, number, data, hops=ttl))


@st.composite
def fragmented(
    draw: DrawFn,
    *,
    family: "str | SearchStrategy[str] | None" = None,
    protocol: "str | SearchStrategy[str] | None" = None,
    sport: "int | SearchStrategy[int] | None" = None,
    dport: "int | SearchStrategy[int] | None" = None,
) -> list[bytes]:
    """All the fragments of one datagram, in order, at least two; put together they are a valid packet."""
    long = st.binary(min_size=64, max_size=256)
    source, target, number, data, ttl, _ = draw(
        _packet(family, protocol, None, None, sport, dport, long, (0, 0))
    )
    units = (len(data) + 7) // 8
    cuts = sorted(draw(st.sets(st.integers(1, units - 1), min_size=1, max_size=4)))
    identification = draw(st.integers(0, 0xFFFF))
    frames = []
    for begin, end in zip([0, *cuts], [*cuts, units], strict=True):
        part, more = data[8 * begin : 8 * end], end < units
        if source.version == 4:
            word = more << 13 | begin
            packet = wf.ipv4(
                source, target, number, part, ttl=ttl, identification=identification, fragment=word
            )
        else:
            header = wf.fragment_header(begin, more, identification)
            first, rest = wf.chained([header], number, part)
            packet = wf.ipv6(source, target, first, rest, hops=ttl)
        frames.append(_framed(source.version, packet))
    return frames


def fragments(
    *,
    family: "str | SearchStrategy[str] | None" = None,
    protocol: "str | SearchStrategy[str] | None" = None,
    sport: "int | SearchStrategy[int] | None" = None,
    dport: "int | SearchStrategy[int] | None" = None,
) -> Frames:
    """One fragment: the first, with the transport header, or a later one, where other bytes are in its place."""
    whole = fragmented(family=family, protocol=protocol, sport=sport, dport=dport)
    return whole.flatmap(st.sampled_from)


@st.composite
def vlan_stacked(
    draw: DrawFn,
    frames: Frames | None = None,
    *,
    depth: "int | SearchStrategy[int] | None" = None,
    tpids: Sequence[int] = TPIDS,
) -> bytes:
    """A frame (``valid()`` if not given) behind VLAN tags: 1 to 5 unless ``depth`` says how many."""
    frame = draw(valid() if frames is None else frames)
    number = draw(_as_strategy(depth, st.integers(1, 5)))
    tag = st.tuples(st.sampled_from(tpids), st.integers(0, 0xFFFF))
    return wf.tagged(frame, draw(st.lists(tag, min_size=number, max_size=number)))


@st.composite
def truncated(draw: DrawFn, frames: Frames | None = None, *, least: int = ETHERNET_HEADER) -> bytes:
    """A frame (any, if not given) cut off somewhere behind its first ``least`` bytes; at least one byte is missing."""
    frame = draw(_whole() if frames is None else frames)
    assume(len(frame) > least)
    return frame[: draw(st.integers(least, len(frame) - 1))]


def _whole() -> Frames:
    return st.one_of(valid(), with_extension_headers(), fragments(), vlan_stacked())


def packets() -> Frames:
    """Everything: valid, with extension headers, fragments, behind VLAN tags, and each of these cut off somewhere."""
    stacked = vlan_stacked(st.one_of(with_extension_headers(), fragments()))
    return st.one_of(_whole(), stacked, truncated())
