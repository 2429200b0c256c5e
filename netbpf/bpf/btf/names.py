"""What names of members, variables, maps and typedefs say where C has no type for a meaning."""

import functools
import re

_CAMEL = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")
_QUALIFIER = re.compile(r"\d+|t|be|start|end|min|max|first|last|from|to|key|net|network")
_ADDRESS = re.compile(
    r"(?:[sdv]|src|dst|peer|local|remote|host|my)?(?:ip|addr|address)(?:v?[46])?(?:e?s)?"
    r"|(?:src|dst)(?:v?[46])?|v[46](?:addr)?s?|source|dest|destination|nexthop|gateway|gw"
)
_PROTOCOL = re.compile(r"(?:ip|l4)?proto(?:col)?|nexthdr")

BIG_ENDIAN = frozenset({"__be16", "__be32", "__be64", "in_port_t", "in_addr_t"})


def _tokens(name: str) -> list[str]:
    return _CAMEL.sub("_", name).lower().strip("_").split("_")


@functools.lru_cache(maxsize=4096)
def is_address(name: str) -> bool:
    """Whether a name promises an IP address: its last word does, leaving numbers and ranges aside.

    >>> [is_address(name) for name in ("saddr", "srcIP", "vip6", "addr_2", "ip_hash", "seq")]
    [True, True, True, True, False, False]
    """
    tokens = _tokens(name)
    while len(tokens) > 1 and _QUALIFIER.fullmatch(tokens[-1]):
        tokens.pop()
    return _ADDRESS.fullmatch(tokens[-1]) is not None


def is_protocol(name: str) -> bool:
    """Whether a name promises an IP protocol number."""
    return any(_PROTOCOL.fullmatch(token) for token in _tokens(name))
