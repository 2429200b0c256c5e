"""Code that looks at packets on their way through a hook: laid around a chain, or around one of its members.

Each tap is a few functions: one that is called before, with a filter that libpcap made and netbpf translated; one that
is called after, and hands what was copied to a ring buffer together with the verdict.
"""

from netbpf.bpf.tap.code import HEAD, Functions, functions
from netbpf.bpf.tap.place import Counts, Place
from netbpf.bpf.tap.translate import MOST_INSTRUCTIONS, translate

__all__ = ("HEAD", "MOST_INSTRUCTIONS", "Counts", "Functions", "Place", "functions", "translate")
