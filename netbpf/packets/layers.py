"""scapy's layers by name, and packets of theirs as bytes: the only importer of scapy besides ``fields``.

scapy fills in what a packet leaves open from the machine it runs on: addresses of its interfaces, a route, even an ARP
request for the destination. Here these are fixed addresses for documentation (RFC 5737, RFC 3849) and locally
administered MACs, so that an expression means the same packet everywhere.
"""

import logging
import re
import socket
import struct
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import Any, Final

from netbpf.errors import ToolMissingError

SOURCE_MAC: Final = "02:00:00:00:00:01"
TARGET_MAC: Final = "02:00:00:00:00:02"
SOURCE_IP: Final = "192.0.2.1"
TARGET_IP: Final = "192.0.2.2"
SOURCE_IP6: Final = "2001:db8::1"
TARGET_IP6: Final = "2001:db8::2"

_BASE: Final = ("scapy.packet", "scapy.layers.l2", "scapy.layers.inet", "scapy.layers.inet6")
# What tunnels and filters see. Loaded for every diff, because scapy only dissects what has been imported; 10 ms.
_USUAL: Final = (
    *_BASE, "scapy.layers.vxlan", "scapy.layers.sctp", "scapy.contrib.mpls", "scapy.contrib.geneve",
)  # fmt: skip
# Searched in this order for a name. A list, because scapy has modules that open sockets or need other packages.
_MODULES: Final = (
    *_USUAL,
    *(f"scapy.layers.{name}" for name in (
        "dns dhcp dhcp6 eap hsrp igmp ipsec isakmp l2tp llmnr lltd mgcp mobileip netbios netflow ntp ppp pptp radius"
        " rip rtp snmp tftp vrrp http"
    ).split()),
    *(f"scapy.contrib.{name}" for name in (
        "igmpv3 gtp gtp_v2 nsh erspan lldp lacp ospf bgp bfd pim eigrp rsvp rpl wireguard roce pfcp macsec ldp cdp"
        " vtp stun coap mqtt modbus ptp_v2 etherip ife isis bier mac_control rtcp ethercat diameter carp aoe tzsp"
    ).split()),
)  # fmt: skip

# Whatever scapy's fields raise when they are given what they cannot be: each complains in its own way.
_PYTHONS: Final = (
    ArithmeticError, AssertionError, AttributeError, LookupError, OSError, TypeError, ValueError, RecursionError,
    struct.error,
)  # fmt: skip
_BUILDING: Final = re.compile(r"While building field '(\w+)':\s*")


def _load(module: str) -> Any:
    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        if error.name != "scapy":
            raise
        raise ToolMissingError(
            "packets as expressions, and their fields, need scapy, which is not installed",
            hint="pip install 'netbpf[packets]'",
        ) from None


@contextmanager
def quiet() -> Iterator[None]:
    """Without scapy's remarks on interfaces, routes and itself."""
    logger = logging.getLogger("scapy")
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # which of its modules have moved
            yield
    finally:
        logger.setLevel(before)


_LOCK: Final = threading.Lock()
# The modules whose fields look up a host's name where they expect an address.
_ASKING: Final = ("scapy.base_classes", "scapy.layers.inet6")


class _Numeric:
    """The module ``socket`` for these: addresses are read as ever, names are refused."""

    def __getattr__(self, name: str) -> Any:
        return getattr(socket, name)

    @staticmethod
    def getaddrinfo(host: str, port: object = None, family: int = 0, *_: object) -> Any:
        from scapy.error import Scapy_Exception

        try:
            return socket.getaddrinfo(host, None, family, flags=socket.AI_NUMERICHOST)
        except socket.gaierror:
            raise Scapy_Exception(f"{host!r} is no address, and names are not looked up") from None


@contextmanager
def contained() -> Iterator[None]:
    """Make and build packets without asking DNS, whatever stands where an address is expected."""
    with _LOCK, quiet():
        for module in _ASKING:
            _load(module).socket = _Numeric()
        try:
            yield
        finally:
            for module in _ASKING:
                _load(module).socket = socket


def load_usual() -> None:
    """Import the layers that packets of programs usually have. ToolMissingError without scapy."""
    with quiet():
        for module in _USUAL:
            _load(module)


class Layers:
    """The layers an expression may name. ToolMissingError without scapy."""

    def __init__(self) -> None:
        load_usual()
        self._packet: type[Any] = _load("scapy.packet").Packet

    def find(self, name: str) -> Any:
        """The class of a layer, whose module is imported if need be; None where there is none."""
        if name.startswith("_"):
            return None
        for module in _MODULES:
            found = getattr(self._module(module), name, None)
            if self._is_layer(found):
                return found
        return None

    def _module(self, name: str) -> Any:
        try:
            with quiet():
                return _load(name)
        except ImportError:
            return None  # of another version of scapy

    def _is_layer(self, found: object) -> bool:
        return (
            isinstance(found, type)
            and issubclass(found, self._packet)
            and found is not self._packet
            and found.__module__.startswith(("scapy.packet", "scapy.layers.", "scapy.contrib."))
        )

    def names(self) -> list[str]:
        """The names of all layers."""
        return [
            name
            for module in _MODULES
            for name, found in vars(self._module(module) or type).items()
            if self._is_layer(found) and not name.startswith("_")
        ]

    @staticmethod
    def fields(layer: Any) -> list[str]:
        """The names of a layer's fields."""
        return [field.name for field in layer.fields_desc]


def trouble() -> tuple[type[Exception], ...]:
    """What scapy raises for values that a field cannot have."""
    from scapy.error import Scapy_Exception

    return (*_PYTHONS, Scapy_Exception)


def words(error: BaseException) -> str:
    """What an exception says, in one line, without scapy's advice."""
    text = " ".join(str(error).split()).partition(" To inject bytes into the field")[0]
    inner = re.search(r"struct\.error\(['\"](.*)['\"]\)$", text)
    return (inner[1] if inner else _BUILDING.sub("", text)) or type(error).__name__


def field_of(error: BaseException) -> str:
    """The field that scapy could not build, "" where it does not say."""
    found = _BUILDING.match(str(error))
    return found[1] if found else ""


def build(packet: Any, error: Callable[[str, str], Exception]) -> bytes:
    """The bytes of a packet that stands for one packet.

    Raises ``error`` of the reason where it does not, and of the name of the field, if it is about one.
    """
    return build_all(packet, error, 1)[0]


def build_all(packet: Any, error: Callable[[str, str], Exception], most: int) -> list[bytes]:
    """The bytes of all packets that one with several values in its fields stands for. ``error`` is as for ``build``."""
    from scapy.layers.l2 import Dot3, Ether

    if not isinstance(packet, (Ether, Dot3)):
        first = type(packet).__name__
        # scapy's bind_layers() records here what a layer puts into the Ethernet header below it.
        if Ether not in type(packet)._overload_fields:  # noqa: SLF001 - scapy offers no other way
            raise error(f"a packet cannot begin with {first}: begin with Ether()", "")
        packet = Ether() / packet
    with contained():
        try:
            settle(packet)
            found: list[bytes] = []
            for one in packet:
                if len(found) == most:
                    few = "several packets, and one is wanted: give every field one value"
                    raise error(
                        f"this stands for {few if most == 1 else f'more than {most:,} packets'}", ""
                    )
                found.append(bytes(one))
            return found
        except trouble() as problem:
            layers = "/".join(layer.__name__ for layer in packet.layers())
            raise error(
                f"scapy cannot build {layers}: {words(problem)}", field_of(problem)
            ) from None


def settle(packet: Any) -> None:
    """Give fixed values to the addresses that scapy would take from this machine, or ask the network for."""
    from scapy.layers.inet import IP
    from scapy.layers.inet6 import IPv6
    from scapy.layers.l2 import ARP, Dot3, Ether

    addresses: dict[type[Any], dict[str, str]] = {
        Ether: {"src": SOURCE_MAC, "dst": TARGET_MAC},
        Dot3: {"src": SOURCE_MAC, "dst": TARGET_MAC},
        ARP: {"hwsrc": SOURCE_MAC, "psrc": SOURCE_IP, "pdst": TARGET_IP},
        IP: {"src": SOURCE_IP, "dst": TARGET_IP},
        IPv6: {"src": SOURCE_IP6, "dst": TARGET_IP6},
    }
    for layer in _each(packet):
        for kind, fixed in addresses.items():
            if isinstance(layer, kind):
                for name, value in fixed.items():
                    if name not in layer.fields and (name not in layer.overloaded_fields):
                        layer.setfieldval(name, value)


def _each(packet: Any) -> Iterator[Any]:
    """A packet's layers, and those of packets in their fields."""
    from scapy.packet import NoPayload, Packet

    while not isinstance(packet, NoPayload):
        yield packet
        for value in packet.fields.values():
            for one in value if isinstance(value, list) else (value,):
                if isinstance(one, Packet):
                    yield from _each(one)
        packet = packet.payload
