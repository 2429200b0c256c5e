"""netbpf: compile, attach, combine, observe and test XDP and TC eBPF programs.

>>> import netbpf
>>> with netbpf.attach("xdp", "eth0", "builtin:xdp_count") as attached:  # doctest: +SKIP
...     print(attached.stats()[0].verdicts)

Importing the package loads next to nothing; each name below is imported when it is first used.
"""

# typing.TYPE_CHECKING would cost every start the import of typing; checkers know the name.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from netbpf.api import Attached as Attached
    from netbpf.api import attach as attach
    from netbpf.api import attach_auto as attach_auto
    from netbpf.api import btfs as btfs
    from netbpf.api import capture as capture
    from netbpf.api import chain as chain
    from netbpf.api import companions as companions
    from netbpf.api import compile as compile  # noqa: A004 - the verb users know
    from netbpf.api import confirm as confirm
    from netbpf.api import coverage as coverage
    from netbpf.api import detach as detach
    from netbpf.api import detach_auto as detach_auto
    from netbpf.api import diff as diff
    from netbpf.api import disassemble as disassemble
    from netbpf.api import doctor as doctor
    from netbpf.api import elf_headers as elf_headers
    from netbpf.api import events as events
    from netbpf.api import features as features
    from netbpf.api import get as get
    from netbpf.api import has as has
    from netbpf.api import inspect as inspect
    from netbpf.api import links as links
    from netbpf.api import load as load
    from netbpf.api import loaded as loaded
    from netbpf.api import map_entries as map_entries
    from netbpf.api import maps as maps
    from netbpf.api import monitor as monitor
    from netbpf.api import pending as pending
    from netbpf.api import pin_map as pin_map
    from netbpf.api import program_code as program_code
    from netbpf.api import program_machine_code as program_machine_code
    from netbpf.api import programs as programs
    from netbpf.api import read_cases as read_cases
    from netbpf.api import replay as replay
    from netbpf.api import run as run
    from netbpf.api import run_cases as run_cases
    from netbpf.api import send as send
    from netbpf.api import set_member as set_member
    from netbpf.api import set_values as set_values
    from netbpf.api import stats as stats
    from netbpf.api import status as status
    from netbpf.api import trace as trace
    from netbpf.api import types as types
    from netbpf.api import unload as unload
    from netbpf.api import walk as walk
    from netbpf.api import watch as watch
    from netbpf.constants import Hook as Hook
    from netbpf.constants import Mode as Mode
    from netbpf.constants import TcAction as TcAction
    from netbpf.constants import XdpAction as XdpAction
    from netbpf.errors import NetbpfError as NetbpfError
    from netbpf.live.members import ChainCounts as ChainCounts
    from netbpf.live.model import Counter as Counter
    from netbpf.live.model import HookStats as HookStats
    from netbpf.model import Attachment as Attachment
    from netbpf.model import Interface as Interface
    from netbpf.model import Member as Member
    from netbpf.model import Occupant as Occupant
    from netbpf.model import ProgramInfo as ProgramInfo
    from netbpf.net.netns import Namespace as Namespace
    from netbpf.packets.context import Context as Context
    from netbpf.packets.coverage_model import Coverage as Coverage
    from netbpf.packets.run import RunResult as RunResult

__version__ = "0.1.0"

_HOMES = {
    "netbpf.api": (
        "Attached",
        "attach",
        "attach_auto",
        "btfs",
        "capture",
        "chain",
        "companions",
        "compile",
        "confirm",
        "coverage",
        "detach",
        "detach_auto",
        "diff",
        "disassemble",
        "doctor",
        "elf_headers",
        "events",
        "features",
        "get",
        "has",
        "inspect",
        "links",
        "load",
        "loaded",
        "map_entries",
        "maps",
        "monitor",
        "pending",
        "pin_map",
        "program_code",
        "program_machine_code",
        "programs",
        "read_cases",
        "replay",
        "run",
        "run_cases",
        "send",
        "set_member",
        "set_values",
        "stats",
        "status",
        "trace",
        "types",
        "unload",
        "walk",
        "watch",
    ),
    "netbpf.constants": ("Hook", "Mode", "TcAction", "XdpAction"),
    "netbpf.errors": ("NetbpfError",),
    "netbpf.model": ("Attachment", "Interface", "Member", "Occupant", "ProgramInfo"),
    "netbpf.live.members": ("ChainCounts",),
    "netbpf.net.netns": ("Namespace",),
    "netbpf.packets.context": ("Context",),
    "netbpf.packets.coverage_model": ("Coverage",),
    "netbpf.packets.run": ("RunResult",),
    "netbpf.live.model": ("Counter", "HookStats"),
}
__all__ = [
    "Attached", "Attachment", "ChainCounts", "Context", "Counter", "Coverage", "Hook", "HookStats", "Interface",
    "Member", "Mode", "Namespace", "NetbpfError", "Occupant", "ProgramInfo", "RunResult", "TcAction", "XdpAction",
    "__version__", "attach", "attach_auto", "btfs", "capture", "chain", "companions", "compile", "confirm",
    "coverage", "detach", "detach_auto", "diff", "disassemble", "doctor", "elf_headers", "events", "features",
    "get", "has", "inspect", "links", "load", "loaded", "map_entries", "maps", "monitor", "pending", "pin_map",
    "program_code", "program_machine_code", "programs", "read_cases", "replay", "run", "run_cases", "send",
    "set_member", "set_values", "stats", "status", "trace", "types", "unload", "walk", "watch",
]  # fmt: skip


def __getattr__(name: str) -> object:
    from importlib import import_module

    for home, names in _HOMES.items():
        if name in names:
            found: object = getattr(import_module(home), name)
            return found
    raise AttributeError(f"module 'netbpf' has no attribute {name!r}")
