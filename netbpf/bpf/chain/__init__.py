"""Several programs as one: members linked behind a dispatcher at instruction level.

The dispatcher is an ordinary program. It runs the members in order, counts every verdict by member and CPU, and
leaves with the first verdict that is not in a member's proceed-on set. It needs no freplace and no kernel BTF.
"""

from netbpf.bpf.chain.build import Chain, build
from netbpf.bpf.chain.counters import SLOTS, Counters
from netbpf.bpf.chain.part import Part, frags

__all__ = ("SLOTS", "Chain", "Counters", "Part", "build", "frags")
