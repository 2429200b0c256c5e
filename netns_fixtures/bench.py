"""Programs that sit nowhere: the kernel runs them on packets that the test gives (BPF_PROG_TEST_RUN)."""

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, Final, Self

from netbpf.constants import Hook
from netbpf.model import Interface
from netbpf.packets.testrun import Bench, Outcome
from netns_fixtures import fields
from netns_fixtures.arrivals import Arrivals, count
from netns_fixtures.errors import ExpectationError, TrafficError
from netns_fixtures.evidence import Evidence
from netns_fixtures.frames import Packets, mutated, to_frames
from netns_fixtures.kinds import TC_TESTRUN, XDP_TESTRUN
from netns_fixtures.running import Running
from netns_fixtures.verdicts import Verdict, wanted

if TYPE_CHECKING:
    from netbpf.packets.context import Context

# The MACs of a wire's ends, so that a packet is the same on a wire and here.
SOURCE_MAC: Final = "02:00:00:00:00:02"
TARGET_MAC: Final = "02:00:00:00:00:01"
_NOWHERE: Final = Interface("TEST_RUN", 0, 0)
_SHOWN: Final = 10


class BenchProgram(Running):
    """A program in TEST_RUN, with its maps and variables. Made by the fixtures ``bench`` and ``rig``."""

    def __init__(self, bench: Bench, evidence: Evidence, release: Callable[[Bench], None]) -> None:
        kind = XDP_TESTRUN if bench.hook is Hook.XDP else TC_TESTRUN
        super().__init__(bench.loaded, kind, _NOWHERE)
        self.bench = bench
        self.evidence = evidence
        self._release: Callable[[Bench], None] | None = release
        evidence.uses(self)

    def __repr__(self) -> str:
        return f"<BenchProgram {self.name} id={self.id} {self.kind}>"

    # --- running ---

    def run(self, packet: Packets, context: "Context | None" = None, **given: Any) -> Outcome:
        """Run it on one packet: verdict, the packet afterwards, the time.

        ``context`` is what the program sees besides the packet, or its fields by name: ``ifindex=5``, ``rx_queue``,
        ``meta`` (XDP), ``mark``, ``priority``, ``cb`` (TC). Raises what ``netbpf.packets.testrun.Bench.run`` raises.
        """
        [frame] = to_frames(packet, SOURCE_MAC, TARGET_MAC)
        return self._run(frame, _context(context, given))

    def _run(self, frame: bytes, context: "Context | None" = None) -> Outcome:
        outcome = self.bench.run(frame, context)
        self.evidence.ran(frame, outcome.data, outcome.verdict, outcome.verdict_name)
        return outcome

    def assert_verdict(
        self, verdict: Verdict, *packets: Packets, context: "Context | None" = None, **given: Any
    ) -> list[Outcome]:
        """Each of ``packets`` gets this verdict: "drop", "tx", "shot", ``XdpAction.PASS``, ``{"xdp": ..., "tc": ...}``.

        For TC, "drop" is shot, and "pass" any of ok, unspec and pipe. Raises ExpectationError naming those that got
        another one.
        """
        __tracebackhide__ = True
        frames = to_frames(packets, SOURCE_MAC, TARGET_MAC)
        if not frames:
            raise TrafficError("assert_verdict() without a packet asserts nothing")
        accepted = wanted(self.kind, verdict)
        seen = _context(context, given)
        outcomes = [self._run(frame, seen) for frame in frames]
        wrong = [
            f"  #{number} {outcome.verdict_name:<8}  {fields.summary(frame)}"
            for number, (frame, outcome) in enumerate(zip(frames, outcomes, strict=True), 1)
            if outcome.verdict not in accepted.numbers
        ]
        if wrong:
            raise ExpectationError(
                f"expected verdict {accepted.words} of {self.name} for {count(len(frames))}; not so for\n"
                + "\n".join([*wrong[:_SHOWN], *_more(len(wrong) - _SHOWN)])
            )
        return outcomes

    def assert_output(
        self,
        packet: Packets,
        expected: Packets | None = None,
        *,
        verdict: Verdict | None = None,
        ignore: Iterable[str] = (),
        mutate: Mapping[str, object] | None = None,
        context: "Context | None" = None,
        **given: Any,
    ) -> Outcome:
        """Run it on one packet, which comes out as ``expected``, or as it went in but for ``mutate``.

        ``mutate={"IP.ttl": 63}`` are fields the program changes, with the checksums that follow; ``ignore`` names
        fields that may be anything. Raises ExpectationError with a comparison by field and by byte.
        """
        __tracebackhide__ = True
        [frame] = to_frames(packet, SOURCE_MAC, TARGET_MAC)
        [after] = [frame] if expected is None else to_frames(expected, SOURCE_MAC, TARGET_MAC)
        comparison = fields.Comparison(mutated(after, mutate), ignore)
        accepted = None if verdict is None else wanted(self.kind, verdict)
        outcome = self._run(frame, _context(context, given))
        if accepted and outcome.verdict not in accepted.numbers:
            raise ExpectationError(
                f"expected verdict {accepted.words} of {self.name}, got {outcome.verdict_name}, "
                f"for {fields.summary(frame)}"
            )
        if not comparison.matches(outcome.data):
            raise ExpectationError(
                f"{self.name} made something else of {fields.summary(frame)}:\n\n{comparison.report(outcome.data)}"
            )
        return outcome

    # --- the end ---

    def detach(self) -> None:
        """Let go of it; a rig is then without a program."""
        self.close()

    def close(self) -> None:
        """Let go of it. The kernel's program may be kept for other tests, as if it were new."""
        if self._opened:
            self._opened.close()
            self._opened = None
        release, self._release = self._release, None
        if release:
            release(self.bench)

    @property
    def closed(self) -> bool:
        """Whether it has been let go of."""
        return self._release is None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _context(context: "Context | None", given: Mapping[str, Any]) -> "Context | None":
    if not given:
        return context
    from dataclasses import replace

    from netbpf.packets.context import Context

    return replace(context or Context(), **given)


def _more(number: int) -> list[str]:
    return [f"  ... and {number} more"] if number > 0 else []


class BenchArrivals(Arrivals):
    """Packets that a program in TEST_RUN let pass, or sent back. They are there at once."""

    def __init__(self, place: str, source: str, target: str, evidence: Evidence) -> None:
        super().__init__(place, source, target)
        self._evidence = evidence

    def add(self, frame: bytes) -> None:
        """One more."""
        self._arrived.append(frame)

    def _drain(self) -> None:
        pass

    def _wait(self, done: Callable[[], bool], seconds: float) -> bool:
        return done()

    def _missing(self, comparison: fields.Comparison, within: float) -> str:
        return super()._missing(comparison, 0)

    def _state(self) -> str:
        verdicts = ", ".join(f"{name} {n}" for name, n in self._evidence.verdicts.items())
        return f"  verdicts: {verdicts or 'none, because no packet was sent'}"

    def expect_none(
        self,
        *packets: Packets,
        ignore: Iterable[str] = (),
        sentinel: Packets | None = None,
        until: Callable[[], bool] | None = None,
    ) -> None:
        """None of ``packets`` arrived; without any, nothing did but what was taken. Needs no sentinel."""
        __tracebackhide__ = True
        if until is not None and not until():
            raise ExpectationError("until() is false after all packets were run")
        self._reject(packets, ignore)
