"""A test bench for one program: a way to attach, packets through the hook, and what became of them.

``Rig`` has a wire and a hook, ``BenchRig`` (netns_fixtures.bench_rig) runs the program in TEST_RUN.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING

from netns_fixtures.arrivals import PATIENCE, count
from netns_fixtures.capture import Capture
from netns_fixtures.errors import ExpectationError, TrafficError
from netns_fixtures.evidence import Evidence
from netns_fixtures.frames import Packets
from netns_fixtures.kinds import XDP_NATIVE, AttachKind

if TYPE_CHECKING:
    from netbpf.bpf.btf.encode import Encodable
    from netns_fixtures.bench import BenchArrivals, BenchProgram
    from netns_fixtures.objects import Object
    from netns_fixtures.programs import Attached
    from netns_fixtures.topology import End, Wire
    from netns_fixtures.verdicts import Verdict


class Rig:
    """Sends packets through one hook of ``wire.dut`` and says what became of them.

    On an ingress hook packets go from ``peer`` to ``dut`` and are looked for behind the hook; on an egress hook from
    ``dut`` to ``peer``. The same test body holds for every kind of attachment. Capturing begins before the first
    packet is sent. Packets that arrived, or came back, and that no expectation took, fail the test at its end once it
    has expected anything at all.
    """

    def __init__(self, wire: "Wire", kind: AttachKind) -> None:
        self._wire: Wire | None = wire
        self.kind = kind
        wire.dut.evidence.kind = kind
        self._programs: list[Attached] = []
        self._through: Capture | None = None
        self._returned: Capture | None = None
        self._expects = False

    def __repr__(self) -> str:
        return f"<Rig {self.kind}: {self.source.ifname} -> {self.target.ifname}>"

    @property
    def wire(self) -> "Wire":
        """The wire. In TEST_RUN there is none: TrafficError."""
        if self._wire is None:
            raise TrafficError(
                f"{self.kind} has no wire; a test that needs one is for kinds on hooks: "
                '@pytest.mark.attach_kinds("all")'
            )
        return self._wire

    @property
    def source(self) -> "End":
        """The end that sends."""
        return self.wire.dut if self.kind.egress else self.wire.peer

    @property
    def target(self) -> "End":
        """The end where packets arrive that get through the hook."""
        return self.wire.peer if self.kind.egress else self.wire.dut

    @property
    def evidence(self) -> Evidence:
        """What was sent and seen."""
        return self.wire.dut.evidence

    def attach(
        self,
        object_: "Object | Mapping[str, Object]",
        *,
        program: str | None = None,
        variables: "Mapping[str, Encodable] | None" = None,
    ) -> "Attached | BenchProgram":
        """Load a program and put it on the hook; it stays until the test ends, or until ``detach``.

        ``object_`` is a path, a C source, ``builtin:NAME``, the bytes of an object, or one of these for each family:
        ``{"xdp": "builtin:xdp_drop", "tc": "builtin:tc_drop"}``. ``variables`` sets globals before the load.
        For native XDP the source's end gets a program that passes everything, without which a veth delivers nothing
        that the program sends back. Raises what netbpf raises.
        """
        from netns_fixtures import programs

        chosen = object_[self.kind.family] if isinstance(object_, Mapping) else object_
        attached = programs.attach(
            self.wire.dut, self.kind, chosen, program=program, variables=variables
        )
        self._programs.append(attached)
        if self.kind == XDP_NATIVE and len(self._programs) == 1:
            from netns_fixtures.passing import PASSING

            PASSING.put(self.wire.peer)
        return attached

    # --- traffic ---

    def send(self, *packets: Packets) -> list[bytes]:
        """Send packets through the hook and return the frames as they were sent; see ``End.send``."""
        self._begin()
        return self.source.send(*packets, may_drop=self.kind.egress)

    def _begin(self) -> "tuple[Capture | BenchArrivals, Capture | BenchArrivals]":
        return self._captures()

    def _captures(self) -> tuple[Capture, Capture]:
        if self._through is None or self._returned is None:
            # Behind an XDP hook is the wire as the kernel first sees it; behind TC ingress are the protocols.
            self._through = self.target.capture(
                "stack" if self.kind.hook == "tc/ingress" else "wire"
            )
            self._returned = self.source.capture("wire")
        return self._through, self._returned

    @property
    def passed(self) -> "Capture | BenchArrivals":
        """What got through the hook."""
        self._expects = True
        return self._begin()[0]

    @property
    def returned(self) -> "Capture | BenchArrivals":
        """What came back to where it was sent from (XDP_TX, redirects)."""
        self._expects = True
        return self._begin()[1]

    # --- expecting ---

    def expect(
        self,
        *packets: Packets,
        ignore: Iterable[str] = (),
        mutate: Mapping[str, object] | None = None,
        within: float = PATIENCE,
    ) -> list[bytes]:
        """Each of ``packets`` got through, with the fields of ``mutate`` changed; see ``Arrivals.expect``."""
        __tracebackhide__ = True
        return self.passed.expect(*packets, ignore=ignore, mutate=mutate, within=within)

    def expect_back(
        self,
        *packets: Packets,
        ignore: Iterable[str] = (),
        mutate: Mapping[str, object] | None = None,
        within: float = PATIENCE,
    ) -> list[bytes]:
        """Each of ``packets`` came back to the source, with the fields of ``mutate`` changed."""
        __tracebackhide__ = True
        return self.returned.expect(*packets, ignore=ignore, mutate=mutate, within=within)

    def expect_none(
        self,
        *packets: Packets,
        ignore: Iterable[str] = (),
        sentinel: Packets | None = None,
        until: Callable[[], bool] | None = None,
    ) -> None:
        """None of ``packets`` got through; without any, nothing did but what was expected.

        See ``Capture.expect_none`` for the sentinel, which an XDP program has to let pass and counts like any packet.
        """
        __tracebackhide__ = True
        self.passed.expect_none(*packets, ignore=ignore, sentinel=sentinel, until=until)

    def assert_verdict(
        self,
        verdict: "Verdict",
        *packets: Packets,
        sentinel: Packets | None = None,
        until: Callable[[], bool] | None = None,
    ) -> None:
        """Send packets, each of which gets this verdict: "pass", "drop", "tx", ``{"xdp": "drop", "tc": "shot"}``, ...

        In TEST_RUN that is the program's own number. On a hook it is what can be seen: as many packets as were sent
        got through, came back, or did neither (where "drop" and "aborted" look alike). They are taken, whatever the
        program has made of them. That packets of TC, or of native XDP, were dropped shows by itself; for skb XDP the
        sentinel or ``until`` has to say so, as for ``expect_none``.
        """
        __tracebackhide__ = True
        from netns_fixtures.verdicts import wanted

        accepted = wanted(self.kind, verdict)
        through, back = self._captures()
        self._expects = True
        before = [*through.packets(), *back.packets()]
        if before:
            raise TrafficError(
                f"{count(len(before))} that no expect() took arrived before assert_verdict()"
            )
        handled = self._handled()
        start = handled() if handled else 0
        sent = len(self.send(*packets))
        if not sent:
            raise TrafficError("assert_verdict() without a packet asserts nothing")
        if accepted.fate == "pass":
            through.await_packets(sent)
        elif accepted.fate == "back":
            back.await_packets(sent)
        elif until is None and sentinel is None and handled is not None:
            through.settle(until=lambda: handled() >= start + sent)
        else:
            through.settle(sentinel=sentinel, until=until)
        found = {"got through": len(through.packets()), "came back": len(back.packets())}
        wanted_of = {"pass": "got through", "back": "came back"}.get(accepted.fate, "")
        if any(number != (sent if what == wanted_of else 0) for what, number in found.items()):
            seen = ", ".join(f"{number} {what}" for what, number in found.items())
            raise ExpectationError(
                f"expected verdict {accepted.words} for {count(sent)}, but of them {seen}, "
                f"and {sent - sum(found.values())} did neither"
            )

    def _handled(self) -> Callable[[], int] | None:
        """A function that says how many packets the native program has been through, as the veth driver counts."""
        if self.kind != XDP_NATIVE or not self._programs:
            return None
        end = self.wire.dut

        def handled() -> int:
            return sum(
                number
                for name, number in end.statistics().items()
                if name.startswith("rx_queue_") and name.endswith("_xdp_packets")
            )

        return handled

    # --- the end ---

    def verify(self) -> None:
        """Fail if something arrived or came back that no expectation took, provided there were expectations."""
        __tracebackhide__ = True
        if self._expects:
            for capture in self._begin():
                capture.check_taken()

    def close(self) -> None:
        """Let go of the programs together with the wire, which is its topology's."""
        self.source.adopt(self._programs)
        for capture in (self._through, self._returned):
            if capture is not None:
                capture.close()
