"""docs/programs.md in Python: what xdp_drop and tc_drop decide, written down a second time.

Slow, simple and separate from the C: where the two differ for any packet, one of them is wrong.
"""

import ipaddress
from dataclasses import dataclass, field
from typing import Final

TAGS: Final = (0x8100, 0x88A8, 0x9100, 0x9200, 0x9300)
EXTENSIONS: Final = (0, 43, 44, 51, 60, 135, 139, 140)
LAST_HIT: Final = 16383


class MalformedError(Exception):
    """A header cannot be followed."""


class LinkError(Exception):
    """Traffic the link needs, to which only src_mac rules apply."""


@dataclass
class Model:
    """A filter: ``rules`` by map and key, each (action, number); prefixes are ``(network, action, number)``."""

    exact: dict[tuple[str, int | bytes], tuple[str, int]] = field(default_factory=dict)
    prefixes: dict[str, list[tuple[ipaddress.IPv4Network | ipaddress.IPv6Network, str, int]]] = (
        field(default_factory=dict)
    )
    policy: str = "PASS"
    keep_link: bool = True
    drop_malformed: bool = True

    def judge(self, frame: bytes) -> tuple[str, int | str]:
        """("PASS" or "DROP", the entry of hits or the exception that counts it)."""
        matching: list[tuple[str, int]] = []
        try:
            self._walk(frame, matching)
        except MalformedError:
            if self.drop_malformed:
                return "DROP", "malformed"
        except LinkError:
            if self.keep_link and not matching:
                return "PASS", "link"
        if not matching:
            return self.policy, 0
        # Unnumbered last; of equal numbers DROP ("D" < "P").
        number, action = min((number or 1 << 32, action) for action, number in matching)
        return action, 0 if number == 1 << 32 else min(number, LAST_HIT)

    # --- looking up ---

    def _exact(self, matching: list[tuple[str, int]], name: str, key: int | bytes) -> None:
        if (name, key) in self.exact:
            matching.append(self.exact[name, key])

    def _prefix(self, matching: list[tuple[str, int]], name: str, address: bytes) -> None:
        one = ipaddress.ip_address(address)
        fitting = [rule for rule in self.prefixes.get(name, []) if one in rule[0]]
        if fitting:
            _, action, number = max(fitting, key=lambda rule: rule[0].prefixlen)
            if action != "NO_RULE":
                matching.append((action, number))

    # --- reading ---

    def _walk(self, frame: bytes, matching: list[tuple[str, int]]) -> None:
        self._exact(matching, "src_mac", frame[6:12])
        at, tags = 12, 0
        kind = int.from_bytes(frame[12:14])
        while kind in TAGS:
            tags += 1
            if tags > 4:
                raise MalformedError
            at += 4
            kind = int.from_bytes(take(frame, at, 2))
        at += 2
        if kind == 0x0806:
            raise LinkError
        if kind == 0x0800:
            self._ipv4(frame, at, matching)
        elif kind == 0x86DD:
            self._ipv6(frame, at, matching)
        elif frame[:5] == b"\x01\x80\xc2\0\0" and frame[5] < 16:
            raise LinkError

    def _ipv4(self, frame: bytes, at: int, matching: list[tuple[str, int]]) -> None:
        header = take(frame, at, 20)
        length = (header[0] & 15) * 4
        if header[0] >> 4 != 4 or length < 20:
            raise MalformedError
        take(frame, at, length)
        self._prefix(matching, "src4", header[12:16])
        self._prefix(matching, "dst4", header[16:20])
        later = int.from_bytes(header[6:8]) & 0x1FFF != 0
        self._upper(frame, at + length, header[9], (51,), later, matching)

    def _ipv6(self, frame: bytes, at: int, matching: list[tuple[str, int]]) -> None:
        header = take(frame, at, 40)
        if header[0] >> 4 != 6:
            raise MalformedError
        if header[6] == 58 and header[7] == 255 and self.keep_link:
            kind, code = take(frame, at + 40, 2)
            if 133 <= kind <= 136 and code == 0:
                raise LinkError
        self._prefix(matching, "src6", header[8:24])
        self._prefix(matching, "dst6", header[24:40])
        self._upper(frame, at + 40, header[6], EXTENSIONS, False, matching)

    def _upper(
        self,
        frame: bytes,
        at: int,
        number: int,
        extensions: tuple[int, ...],
        later: bool,
        matching: list[tuple[str, int]],
    ) -> None:
        for _ in range(8):
            if later or number not in extensions:
                break
            self._exact(matching, "proto", number)
            start = take(frame, at, 8)
            length = {44: 8, 51: (start[1] + 2) * 4}.get(number, (start[1] + 1) * 8)
            take(frame, at, length)
            later = number == 44 and int.from_bytes(start[2:4]) >> 3 != 0
            number, at = start[0], at + length
        self._exact(matching, "proto", number)
        if later:
            return
        if number in extensions:
            raise MalformedError
        if number in (6, 17):
            name = "tcp" if number == 6 else "udp"
            ports = take(frame, at, 4)
            self._exact(matching, f"{name}_sport", int.from_bytes(ports[:2]))
            self._exact(matching, f"{name}_dport", int.from_bytes(ports[2:]))


def take(frame: bytes, at: int, size: int) -> bytes:
    """So many bytes of the frame, all of which have to be there."""
    if at + size > len(frame):
        raise MalformedError
    return frame[at : at + size]
