"""What a program has gathered, carried over to its successor: maps, map entries and variables."""

from netbpf.carry.carrier import Carrier
from netbpf.carry.model import Action, CarryError, Change, Detail, Item, Merged, Plan, Report
from netbpf.carry.planning import plan

__all__ = [
    "Action",
    "CarryError",
    "Carrier",
    "Change",
    "Detail",
    "Item",
    "Merged",
    "Plan",
    "Report",
    "plan",
]
