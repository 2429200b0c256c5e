"""What a capture's packets begin with: LINKTYPE_* numbers (https://www.tcpdump.org/linktypes.html)."""

from netbpf.errors import CaptureError

ETHERNET = 1
_RAW = "its packets have no Ethernet header, which programs expect; tcprewrite --dlt=enet puts one before them"
_ANY = "capture on one interface: tcpdump -i any drops the Ethernet header"
_NAMES = {
    0: ("NULL", _RAW), 9: ("PPP", _RAW), 12: ("RAW", _RAW), 14: ("RAW", _RAW), 50: ("PPP_HDLC", _RAW),
    101: ("RAW", _RAW), 105: ("IEEE802_11", "that is wireless; capture without monitor mode"), 108: ("LOOP", _RAW),
    113: ("LINUX_SLL", _ANY), 119: ("IEEE802_11_PRISM", "that is wireless; capture without monitor mode"),
    127: ("IEEE802_11_RADIOTAP", "that is wireless; capture without monitor mode"),
    147: ("USER0", None), 189: ("USB_LINUX", None), 220: ("USB_LINUX_MMAPPED", None), 227: ("CAN_SOCKETCAN", None),
    228: ("IPV4", _RAW), 229: ("IPV6", _RAW), 249: ("USBPCAP", None), 253: ("NETLINK", None),
    276: ("LINUX_SLL2", _ANY),
}  # fmt: skip


def name_of(number: int) -> str:
    """``LINUX_SLL (113)``."""
    known = _NAMES.get(number)
    return f"{known[0]} ({number})" if known else str(number)


def refused(origin: str, number: int) -> CaptureError:
    """The error for a capture of another link type, with what would help."""
    hint = (_NAMES.get(number) or ("", None))[1]
    return CaptureError(
        f"{origin} holds packets of link type {name_of(number)}; programs run on Ethernet frames (1)",
        hint=hint or "capture on an Ethernet interface",
    )
