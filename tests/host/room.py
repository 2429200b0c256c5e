"""A machine of a test's own, as far as mounts, processes and network go: what is broken in it is broken nowhere else.

``python -m tests.host.room`` is the process inside. It reads one JSON array per line, a shell's command or a check to
make, and answers with one JSON value.
"""

import contextlib
import dataclasses
import importlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
SET_UP = """
set -e
ip link set lo up
mkdir -p /run/netbpf && mount -t tmpfs -o mode=700 tmpfs /run/netbpf
mount -t bpf -o mode=700 bpf /sys/fs/bpf
mount -t tracefs tracefs /sys/kernel/tracing
mount -t tmpfs tmpfs /proc/sys/net/core
cd /proc/sys/net/core
echo 1 >bpf_jit_enable; echo 0 >bpf_jit_harden; echo 1 >bpf_jit_kallsyms; echo 528482304 >bpf_jit_limit
echo 1000 >netdev_max_backlog; echo 300 >netdev_budget
echo 1 >/proc/sys/net/ipv6/conf/default/disable_ipv6
"""


class Room:
    """The room from outside."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            ["unshare", "--net", "--mount", "--propagation", "private", "--pid", "--fork", "--kill-child",
             "--mount-proc", sys.executable, "-m", "tests.host.room"],
            cwd=ROOT, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            env={**os.environ, "PATH": f"{Path(sys.executable).parent}:/usr/sbin:/usr/bin:/sbin:/bin",
                 "PYTHONPATH": str(ROOT)},
        )  # fmt: skip
        self.sh(SET_UP)

    def close(self) -> None:
        self._process.communicate()

    def _ask(self, *what: Any) -> Any:
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.write(json.dumps(what) + "\n")
        self._process.stdin.flush()
        answer = json.loads(self._process.stdout.readline())
        assert "error" not in answer, answer["error"]
        return answer["value"]

    def sh(self, text: str) -> str:
        """Run a command; its output. It has to end with 0."""
        code, out, err = self._ask("sh", text)
        assert code == 0, f"{text}: {out}{err}"
        return str(out)

    def ended(self, text: str) -> tuple[int, str, str]:
        """Run a command: exit code, output, errors."""
        code, out, err = self._ask("sh", text)
        return int(code), str(out), str(err)

    def check(self, name: str, *args: Any) -> list[dict[str, Any]]:
        """What a check of ``netbpf.host`` finds: ``kernel_checks.bpffs``."""
        found = self._ask("check", name, *args)
        return found if isinstance(found, list) else [found]

    def interface(self, name: str) -> dict[str, dict[str, Any]]:
        """What is found about an interface, by check."""
        return {one["check"]: one for one in self._ask("interface", name)}

    def one(self, name: str, label: str = "", *args: Any) -> dict[str, Any]:
        """The one finding of a check, or the one with a label."""
        [found] = [one for one in self.check(name, *args) if label in ("", one["check"])]
        return found


def answer(what: list[Any]) -> Any:
    """Do one thing, inside."""
    kind, name, *args = what
    if kind == "sh":
        done = subprocess.run(
            ["timeout", "30", "bash", "-c", name],
            capture_output=True,
            text=True,
            check=False,
            stdin=subprocess.DEVNULL,
        )
        _reap()
        return [done.returncode, done.stdout, done.stderr]
    if kind == "interface":
        return _plain(_interface(name))
    module, function = name.rsplit(".", 1)
    return _plain(getattr(importlib.import_module(f"netbpf.host.{module}"), function)(*args))


def _reap() -> None:
    """As process 1 has to: a watcher that was killed would stay a zombie, and look alive."""
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


def _interface(name: str) -> Any:
    from netbpf.host import interface
    from netbpf.net.interfaces import resolve
    from netbpf.net.netns import Namespace
    from netbpf.net.rtnetlink import Session

    with Namespace.current() as here, Session(here) as session:
        return interface.checks(session, resolve(session, name))


def _plain(found: Any) -> Any:
    if isinstance(found, list | tuple):
        return [_plain(one) for one in found]
    return (
        dataclasses.asdict(found)
        if dataclasses.is_dataclass(found) and not isinstance(found, type)
        else found
    )


def main() -> None:
    """Answer until nobody asks any more."""
    for line in sys.stdin:
        try:
            said = {"value": answer(json.loads(line))}
        except Exception as error:  # noqa: BLE001 - whatever it is, the test outside has to hear of it
            said = {"error": repr(error)}
        sys.stdout.write(json.dumps(said) + "\n")
        sys.stdout.flush()


@contextlib.contextmanager
def room() -> Iterator[Room]:
    """A room for the time of a block."""
    made = Room()
    try:
        yield made
    finally:
        made.close()


if __name__ == "__main__":
    main()
