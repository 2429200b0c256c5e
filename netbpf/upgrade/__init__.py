"""What a program has gathered, carried over to its successor: maps, map entries and variables."""

from netbpf.upgrade.carrier import Carrier
from netbpf.upgrade.model import Action, CarryError, Change, Detail, Item, Merged, Plan, Report
from netbpf.upgrade.planning import plan

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
