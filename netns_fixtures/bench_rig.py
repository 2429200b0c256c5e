"""The rig without a network: every packet goes through TEST_RUN, and the verdict says where it would have gone."""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from netbpf.constants import Hook
from netns_fixtures.bench import SOURCE_MAC, TARGET_MAC, BenchArrivals, BenchProgram
from netns_fixtures.errors import TrafficError
from netns_fixtures.evidence import Evidence
from netns_fixtures.frames import Packets, to_frames
from netns_fixtures.kinds import AttachKind
from netns_fixtures.pool import POOL
from netns_fixtures.rig import Rig
from netns_fixtures.verdicts import fate

if TYPE_CHECKING:
    from netbpf.bpf.btf.encode import Encodable
    from netns_fixtures.objects import Object
    from netns_fixtures.topology import Topology
    from netns_fixtures.verdicts import Verdict


class BenchRig(Rig):
    """Says the same of a program in TEST_RUN as ``Rig`` of one on a hook.

    What passes is in ``passed``, what XDP_TX sends back in ``returned``; what is dropped or redirected is in neither.
    There is no wire, and without a program everything passes.
    """

    def __init__(self, kind: AttachKind, evidence: Evidence) -> None:
        self._wire = None
        self.kind = kind
        self._evidence = evidence
        evidence.kind = kind
        self._bench_programs: list[BenchProgram] = []
        self._came_through = BenchArrivals("the stack", SOURCE_MAC, TARGET_MAC, evidence)
        self._came_back = BenchArrivals("the sender", TARGET_MAC, SOURCE_MAC, evidence)
        self._expects = False

    def __repr__(self) -> str:
        return f"<BenchRig {self.kind}>"

    @property
    def evidence(self) -> Evidence:
        """What was sent and seen."""
        return self._evidence

    def attach(
        self,
        object_: "Object | Mapping[str, Object]",
        *,
        program: str | None = None,
        variables: "Mapping[str, Encodable] | None" = None,
    ) -> BenchProgram:
        """Load a program to be run on the packets that are sent. Raises what netbpf raises."""
        if self._running:
            raise TrafficError(f"{self._running!r} is there already")
        chosen = object_[self.kind.family] if isinstance(object_, Mapping) else object_
        taken = POOL.take(chosen, program=program, hook=Hook(self.kind.hook), variables=variables)
        made = BenchProgram(taken, self._evidence, POOL.give_back)
        self._bench_programs.append(made)
        return made

    @property
    def _running(self) -> BenchProgram | None:
        return next((one for one in self._bench_programs if not one.closed), None)

    def send(self, *packets: Packets) -> list[bytes]:
        """Run the program on packets, one after the other, and return the frames as they went in."""
        frames = to_frames(packets, SOURCE_MAC, TARGET_MAC)
        running = self._running
        if running is None:
            self._evidence.sent(frames, "the sender")
        for frame in frames:
            if running is None:
                self._came_through.add(frame)
                continue
            outcome = running.run(frame)
            match fate(running.hook, outcome.verdict):
                case "pass":
                    self._came_through.add(outcome.data)
                case "back":
                    self._came_back.add(outcome.data)
        return frames

    def _begin(self) -> tuple[BenchArrivals, BenchArrivals]:
        return self._came_through, self._came_back

    def assert_verdict(
        self,
        verdict: "Verdict",
        *packets: Packets,
        sentinel: Packets | None = None,
        until: Callable[[], bool] | None = None,
    ) -> None:
        """The program's verdict on each of ``packets`` is exactly this one; see ``BenchProgram.assert_verdict``."""
        __tracebackhide__ = True
        if self._running is None:
            raise TrafficError("no program is attached")
        self._running.assert_verdict(verdict, *packets)

    def close(self) -> None:
        """Let go of the programs."""
        for one in self._bench_programs:
            one.close()


def make_rig(kind: AttachKind, topology: "Topology") -> Rig:
    """The rig of a kind; its wire, if it needs one, and what it sees are the topology's."""
    return Rig(topology.wire(), kind) if kind.on_wire else BenchRig(kind, topology.evidence)
