"""A test bench for one program: a wire, a way to attach, and captures behind the hook and at the source."""

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING

from netns_fixtures.capture import PATIENCE, Capture
from netns_fixtures.frames import Packets
from netns_fixtures.kinds import XDP_NATIVE, AttachKind

if TYPE_CHECKING:
    from netbpf.bpf.btf.encode import Encodable
    from netns_fixtures.programs import Attached, Object
    from netns_fixtures.topology import End, Wire


class Rig:
    """Sends packets through one hook of ``wire.dut`` and says what became of them.

    On an ingress hook packets go from ``peer`` to ``dut`` and are looked for behind the hook; on an egress hook from
    ``dut`` to ``peer``. The same test body holds for every kind of attachment. Capturing begins before the first
    packet is sent. Packets that arrived, or came back, and that no expectation took, fail the test at its end once it
    has expected anything at all.
    """

    def __init__(self, wire: "Wire", kind: AttachKind) -> None:
        self.wire = wire
        self.kind = kind
        self.source: End = wire.dut if kind.egress else wire.peer
        self.target: End = wire.peer if kind.egress else wire.dut
        self._programs: list[Attached] = []
        self._through: Capture | None = None
        self._returned: Capture | None = None
        self._expects = False

    def __repr__(self) -> str:
        return f"<Rig {self.kind}: {self.source.ifname} -> {self.target.ifname}>"

    def attach(
        self,
        object_: "Object | Mapping[str, Object]",
        *,
        program: str | None = None,
        variables: "Mapping[str, Encodable] | None" = None,
    ) -> "Attached":
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
            self._programs.append(programs.attach_pass(self.wire.peer, XDP_NATIVE))
        return attached

    # --- traffic ---

    def send(self, *packets: Packets) -> list[bytes]:
        """Send packets through the hook and return the frames as they were sent; see ``End.send``."""
        self._begin()
        return self.source.send(*packets, may_drop=self.kind.egress)

    def _begin(self) -> tuple[Capture, Capture]:
        if self._through is None or self._returned is None:
            # Behind an XDP hook is the wire as the kernel first sees it; behind TC ingress are the protocols.
            self._through = self.target.capture(
                "stack" if self.kind.hook == "tc/ingress" else "wire"
            )
            self._returned = self.source.capture("wire")
        return self._through, self._returned

    @property
    def passed(self) -> Capture:
        """What got through the hook."""
        self._expects = True
        return self._begin()[0]

    @property
    def returned(self) -> Capture:
        """What came back to where it was sent from (XDP_TX, redirects)."""
        self._expects = True
        return self._begin()[1]

    def expect(
        self, *packets: Packets, ignore: Iterable[str] = (), within: float = PATIENCE
    ) -> list[bytes]:
        """Each of ``packets`` got through; see ``Capture.expect``."""
        __tracebackhide__ = True
        return self.passed.expect(*packets, ignore=ignore, within=within)

    def expect_back(
        self, *packets: Packets, ignore: Iterable[str] = (), within: float = PATIENCE
    ) -> list[bytes]:
        """Each of ``packets`` came back to the source."""
        __tracebackhide__ = True
        return self.returned.expect(*packets, ignore=ignore, within=within)

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
