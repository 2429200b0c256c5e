"""bpftool (libbpf) as an oracle: what it makes of an object, in a mount namespace with a bpffs of its own."""

import itertools
import json
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

_SCRIPT = """
mount -t bpf bpf "$1" || exit 90
bpftool prog loadall "$2" "$1" || exit 91
for pin in "$1"/*; do
    shown=$(bpftool -j prog show pinned "$pin")
    echo "PROGRAM $(basename "$pin")"
    echo "$shown"
    for id in $(echo "$shown" | sed -n 's/.*"map_ids":.\\([0-9,]*\\).*/\\1/p' | tr , ' '); do
        echo MAP
        bpftool -j map show id "$id"
        echo
    done
done
"""


@dataclass(slots=True)
class Oracle:
    """``programs``: what bpftool shows of each; ``maps``: name, type, sizes of those it uses; ``log``: all it said."""

    refused: bool
    log: str
    programs: dict[str, dict[str, Any]] = field(default_factory=dict)
    maps: dict[str, set[tuple[Any, ...]]] = field(default_factory=dict)


def loadall(path: Path, directory: Path) -> Oracle:
    """Load every program of an object."""
    mounted = directory / "bpffs"
    mounted.mkdir(exist_ok=True)
    done = subprocess.run(
        ["unshare", "-m", "sh", "-c", _SCRIPT, "sh", str(mounted), str(path)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode in (0, 91), done.stderr
    found = Oracle(done.returncode == 91, done.stdout + done.stderr)
    name = ""
    lines = done.stdout.splitlines()
    for head, body in itertools.pairwise(lines):
        if head.startswith("PROGRAM "):
            name = head.split(" ", 1)[1]
            found.programs[name] = json.loads(body)
            found.maps[name] = set()
        elif head == "MAP":
            one = json.loads(body)
            found.maps[name].add(
                (
                    one.get("name", ""),
                    one["type"],
                    one["bytes_key"],
                    one["bytes_value"],
                    one["max_entries"],
                )
            )
    return found
