"""Every rejection netbpf can explain, in the order in which they are tried."""

from netbpf.explain.catalogue import (
    code,
    context,
    control,
    functions,
    helpers,
    memory,
    packet,
    pointers,
    resources,
)
from netbpf.explain.catalogue.entry import Case, Entry

__all__ = ("CHAPTERS", "ENTRIES", "Case", "Entry")

# Title of the chapter on the page, and its entries.
CHAPTERS: tuple[tuple[str, tuple[Entry, ...]], ...] = (
    ("Packet data", packet.ENTRIES),
    ("References, locks, timers, dynptrs", resources.ENTRIES),
    ("Maps, stack and other memory", memory.ENTRIES),
    ("The context", context.ENTRIES),
    ("Registers and pointers", pointers.ENTRIES),
    ("Functions and return values", functions.ENTRIES),
    ("Helpers and kernel functions", helpers.ENTRIES),
    ("Loops and complexity", control.ENTRIES),
    ("Code the verifier cannot read", code.ENTRIES),
)

ENTRIES: tuple[Entry, ...] = tuple(entry for _, entries in CHAPTERS for entry in entries)
