"""A namespace with interfaces, a state directory, and what may be there before and after an operation."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import IO, Any, cast

from netbpf import Attachment, Namespace, api, layout
from netbpf.bpf import pin
from netbpf.constants import Hook
from netbpf.net.filters import qdiscs
from netbpf.net.occupants import occupants
from netbpf.net.rtnetlink import Session
from netns_fixtures.topology import Topology
from tests.faults.driver import Answer, Fault
from tests.support.waiting import eventually, exists

ROOT = Path(__file__).parents[2]


class Driver:
    """The process of tests/faults/driver.py."""

    def __init__(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.faults.driver"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            cwd=ROOT,
        )  # fmt: skip

    def ask(self, request: dict[str, Any]) -> Answer:
        sending = cast("IO[str]", self.process.stdin)
        sending.write(json.dumps(request) + "\n")
        sending.flush()
        line = cast("IO[str]", self.process.stdout).readline()
        assert line, "the driver died"
        return cast("Answer", json.loads(line))

    def close(self) -> None:
        cast("IO[str]", self.process.stdin).close()
        self.process.wait()
        cast("IO[str]", self.process.stdout).close()


class Lab:
    """One namespace with the veth interfaces v0, v1 (and more ends v2, v3), and a state directory of its own."""

    def __init__(self, topology: Topology, driver: Driver, state: Path) -> None:
        self.topology, self.driver, self.state = topology, driver, state
        self._put: set[tuple[str, int]] = set()
        self._let_go: set[tuple[str, int]] = set()
        self.namespace: Namespace = topology.namespace()
        self.topology.wire(self.namespace, self.namespace, names=("v0", "v1"), up=False)
        self.topology.wire(self.namespace, self.namespace, names=("v2", "v3"), up=False)

    command = (sys.executable, "-m", "netbpf")

    @property
    def path(self) -> str:
        """The namespace for other processes."""
        return f"/proc/{os.getpid()}/fd/{self.namespace.fileno()}"

    # --- operations ---

    def put(self, hook: Hook, interfaces: str, source: str, **options: Any) -> None:
        """Attach from this process, which is three times as fast as in another: what has to be there before."""
        attached = api.attach(hook, interfaces, source, netns=self.namespace, **options)
        for one in attached.results:
            assert one.attachment is not None
            self._put.add(("PROG", one.attachment.program.id))
        attached.close()

    # --- operations in a process of their own ---

    def attach(self, *arguments: object, fault: Fault | None = None, **options: Any) -> Answer:
        return self._ask("attach", arguments, fault, options)

    def detach(self, *arguments: object, fault: Fault | None = None, **options: Any) -> Answer:
        return self._ask("detach", arguments, fault, options)

    def ask(
        self, call: str, *arguments: object, fault: Fault | None = None, **options: Any
    ) -> Answer:
        """Any function of the library."""
        return self._ask(call, arguments, fault, options)

    def _ask(
        self, call: str, arguments: object, fault: Fault | None, options: dict[str, Any]
    ) -> Answer:
        return self.driver.ask({
            "call": call, "arguments": arguments, "options": {"netns": self.path, **options},
            "fault": fault or {}, "state": str(self.state),
        })  # fmt: skip

    def cli(
        self,
        *words: str,
        before: tuple[str, ...] = (),
        netns: str | None = None,
        env: dict[str, str] | None = None,
        **options: Any,
    ) -> "subprocess.CompletedProcess[str]":
        """The command line in a fresh process, behind the words ``before``, in the lab's namespace or another."""
        return subprocess.run(
            [*before, *self.command, *words, *self._netns(netns)],
            text=True, capture_output=True, check=False, cwd=ROOT,
            env={**os.environ, "NETBPF_STATE_DIR": str(self.state), **(env or {})}, **options,
        )  # fmt: skip

    def _netns(self, netns: str | None) -> list[str]:
        """``netns`` None is the lab's namespace, "" the one the command is started in."""
        return [] if netns == "" else ["--netns", netns or self.path]

    def ip(self, words: str) -> str:
        """ip(8) in the lab's namespace."""
        done = self.namespace.run(
            subprocess.run, ["ip", *words.split()], text=True, capture_output=True, check=False
        )
        assert done.returncode == 0, done.stderr
        return str(done.stdout)

    # --- what is there ---

    def status(self) -> list[Attachment]:
        """What netbpf says; it has to be what the kernel says."""
        shown = api.status(netns=self.namespace)
        with Session(self.namespace) as session:
            assert [one.occupant for one in shown] == occupants(session)
        return shown

    def on(self, hook: str, seen: list[Attachment] | None = None) -> dict[str, Attachment]:
        """What is on one hook of each interface; ``seen`` is what status has just said."""
        there = self.status() if seen is None else seen
        return {one.occupant.interface.name: one for one in there if one.occupant.hook == hook}

    def qdiscs(self) -> int:
        with Session(self.namespace) as session:
            return len(qdiscs(session))

    def files(self) -> list[str]:
        """What is in the state directory, without its fixed parts."""
        own = self.state / "bpffs"
        found = [
            str(path.relative_to(self.state)) for path in self.state.rglob("*")
            if not path.is_relative_to(own) and not path.is_dir()
        ]  # fmt: skip
        return sorted(name for name in found if name != "lock")

    def pins(self) -> list[Path]:
        """Pins that stand for the lab's interfaces."""
        roots = [layout.BPFFS, self.state / "bpffs"]
        return [
            path for root in roots if pin.is_bpffs(root)
            for path in pin.listed(layout.link_pins(root))
            if path.name.startswith(f"{self.namespace.inode}-")
        ]  # fmt: skip

    def assert_consistent(self, seen: list[Attachment] | None = None) -> None:
        """Every file is one that an attachment needs, and every attachment has what it needs."""
        there = self.status() if seen is None else seen
        wanted = set()
        for one in there:
            assert one.managed
            assert one.members
            where = one.occupant.interface
            wanted.add(f"hooks/{layout.place(where.netns, where.index, one.occupant.hook)}.json")
            for member in one.members:
                wanted.add(f"objects/{member.object.sha256}.o")
                if member.previous:
                    wanted.add(f"objects/{member.previous.sha256}.o")
            if one.occupant.filter:
                wanted.add(f"qdiscs/{where.netns}-{where.index}")
        assert set(self.files()) == wanted
        links = [one for one in there if one.occupant.link_id]
        assert len(self.pins()) == len(links)

    def assert_nothing_left(self, *answers: Answer, seen: list[Attachment] | None = None) -> None:
        """No program on any hook, no qdisc, pin, record, kept object or temporary file.

        What the operations made is freed by the end of the test: ``assert_freed`` then waits once for all of it.
        """
        assert (self.status() if seen is None else seen) == []
        assert self.qdiscs() == 0
        assert self.pins() == []
        assert self.files() == []
        for answer in answers:
            self._let_go |= {(kind, number) for kind, number in answer["made"]}
        self._let_go |= self._put
        self._put.clear()

    def assert_freed(self) -> None:
        """The kernel has freed everything that was made by operations of which nothing was left."""
        for kind, number in self._let_go:
            eventually(lambda k=kind, n=number: not exists(k, n), f"{kind} {number} stays")  # type: ignore[misc]
