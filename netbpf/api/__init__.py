"""The library: what the commands do, as typed functions. ``from netbpf import attach, status, stats``.

Functions raise NetbpfError and its subclasses (``netbpf.errors``) and print nothing. ``netns`` is a name below
/run/netns, a path, ``pid:NUMBER`` or an open ``Namespace``; None is the calling thread's namespace.

Each operation imports what it needs when it is called: ``status`` does not pay for ``attach``.
"""

from netbpf.api.auto import attach_auto, companions, detach_auto
from netbpf.api.btf import btfs, types
from netbpf.api.capturing import capture
from netbpf.api.chains import chain, rollback, set_member, upgrade
from netbpf.api.common import LOCK_TIMEOUT, HookName, StrPath, hook_of
from netbpf.api.compiling import compile  # noqa: A004
from netbpf.api.hooks import Attached, attach, confirm, detach, pending, status
from netbpf.api.hosts import doctor, features, has
from netbpf.api.inside import (
    Which,
    disassemble,
    elf_headers,
    inspect,
    links,
    map_entries,
    maps,
    pin_map,
    program_code,
    program_machine_code,
    programs,
)
from netbpf.api.listening import events, trace
from netbpf.api.loading import load, loaded, unload
from netbpf.api.packets import coverage, diff, read_cases, replay, run, run_cases, walk
from netbpf.api.sending import send
from netbpf.api.values import get, set_values, stats, watch
from netbpf.api.watching import monitor

__all__ = [
    "attach",
    "attach_auto",
    "Attached",
    "btfs",
    "capture",
    "chain",
    "companions",
    "compile",
    "coverage",
    "confirm",
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
    "hook_of",
    "HookName",
    "inspect",
    "links",
    "load",
    "loaded",
    "LOCK_TIMEOUT",
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
    "rollback",
    "run",
    "run_cases",
    "send",
    "set_member",
    "set_values",
    "stats",
    "status",
    "StrPath",
    "trace",
    "types",
    "unload",
    "upgrade",
    "walk",
    "watch",
    "Which",
]
