"""Where netbpf keeps things. Pure: computes paths and touches nothing."""

import os
import zlib
from pathlib import Path

from netbpf.constants import Hook

BPFFS = Path("/sys/fs/bpf")
PIN_ROOT = "netbpf"  # the directory of our pins within a bpffs


_STATE = Path("/run/netbpf")


def state_dir() -> Path:
    """Records, kept objects and the lock: ``/run/netbpf``, a tmpfs, so gone at reboot like the attachments.

    ``NETBPF_STATE_DIR`` puts it elsewhere (tests; hosts without /run).
    """
    return Path(os.environ.get("NETBPF_STATE_DIR") or _STATE)


def lock_file() -> Path:
    """The lock around every change."""
    return state_dir() / "lock"


def records_dir() -> Path:
    """One file per managed hook."""
    return state_dir() / "hooks"


def place(netns: int, ifindex: int, hook: Hook) -> str:
    """The file name part of a hook: unique on the host, without dots (bpffs refuses them)."""
    return f"{netns}-{ifindex}-{hook.value.replace('/', '-')}"


def record_file(netns: int, ifindex: int, hook: Hook) -> Path:
    """The record of a hook."""
    return records_dir() / f"{place(netns, ifindex, hook)}.json"


def qdisc_file(netns: int, ifindex: int) -> Path:
    """Marks a clsact qdisc that netbpf created."""
    return state_dir() / "qdiscs" / f"{netns}-{ifindex}"


def object_file(sha256: str) -> Path:
    """The kept copy of a managed program's object."""
    return state_dir() / "objects" / f"{sha256}.o"


def pending_file(name: str) -> Path:
    """A change that waits for its confirmation."""
    return state_dir() / "pending" / f"{name}.json"


def undone_file(netns: int, ifindex: int, hook: Hook) -> Path:
    """The word that a hook went back because no confirmation came."""
    return state_dir() / "undone" / f"{place(netns, ifindex, hook)}.json"


def tap_file(name: str) -> Path:
    """Locked by a capture for as long as it lives."""
    return state_dir() / "taps" / name


def own_bpffs() -> Path:
    """Where netbpf mounts a bpffs of its own if the host has none."""
    return state_dir() / "bpffs"


def link_pins(bpffs: Path) -> Path:
    """The directory of the pins of managed links."""
    return bpffs / PIN_ROOT / _own("links")


def link_pin(bpffs: Path, netns: int, ifindex: int, hook: Hook) -> Path:
    """The pin of a managed link."""
    return link_pins(bpffs) / place(netns, ifindex, hook)


def map_pins(bpffs: Path) -> Path:
    """The directory of the pins of maps that lose something without (prog arrays, timers), by their ids."""
    return bpffs / PIN_ROOT / _own("maps")


def of_this_state() -> tuple[str, ...]:
    """Names of directories of pins that nobody has but this state directory, so that they go with the last pin."""
    return tuple(own for name in ("links", "maps") if (own := _own(name)) != name)


def _own(name: str) -> str:
    """``name``, and ``name-HASH`` for another state directory than the usual one: whoever shares a bpffs, but neither
    records nor lock, must not take a pin for one that nobody needs.
    """
    state = state_dir()
    return name if state == _STATE else f"{name}-{zlib.crc32(os.fsencode(state.absolute())):08x}"


def auto_pins(bpffs: Path) -> Path:
    """The directory of the pins of ``attach auto``."""
    return bpffs / PIN_ROOT / "auto"


def auto_records() -> Path:
    """One file per set that ``attach auto`` attached."""
    return state_dir() / "auto"


def auto_record(number: int) -> Path:
    """The record of a set."""
    return auto_records() / f"{number}.json"


def loaded_pins(bpffs: Path) -> Path:
    """The directory of the pins of ``load``, with one for each object in it."""
    return bpffs / PIN_ROOT / "loaded"


def loaded_records() -> Path:
    """One file per set that ``load`` loaded, and beside it a copy of its object."""
    return state_dir() / "loaded"


def loaded_record(key: str) -> Path:
    """The record of a set."""
    return loaded_records() / f"{key}.json"


def loaded_object(key: str) -> Path:
    """The copy of the object of a set."""
    return loaded_records() / f"{key}.o"
