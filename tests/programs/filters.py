"""A drop filter under test, on a wire or in TEST_RUN, behind one set of words.

``rules`` takes what ``netbpf set`` takes; ``drops`` and ``passes`` say what becomes of a frame and what decided it,
and check that each counter moves as it has to and no other one does.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Final, NamedTuple

import netbpf
from netbpf._sys import bpf as sys_bpf
from netbpf.bpf.loader import Loaded
from netbpf.bpf.map import Map
from netbpf.bpf.program import Program
from netbpf.constants import Hook
from netbpf.live.access import Access
from netbpf.packets.testrun import Bench
from netns_fixtures.bench import BenchProgram
from netns_fixtures.capture import Capture
from netns_fixtures.counters import Changes
from netns_fixtures.evidence import Evidence
from netns_fixtures.programs import Attached
from netns_fixtures.rig import Rig
from tests.programs.tally import Tally

POLICY: Final = 0  # the entry of hits for packets without a (numbered) rule
LAST: Final = 16383  # the entry that numbers without one of their own share
LINK: Final = "link"
MALFORMED: Final = "malformed"
Reason = int | str  # a rule number, or one of the exceptions

Counters = dict[str, int]
SETTINGS: Final = ("policy=PASS", "keep_link=true", "drop_malformed=true")
# Those of frames that get through TC ingress, besides the ones a capture there sees anyway: LACP, 802.1X.
ETHER_TYPES: Final = (0x8809, 0x888E)
_CHUNK: Final = 1 << 13  # bytes
_ZEROS: Final = bytes(_CHUNK)


def drop(name: str, rule: int = 0) -> str:
    """The text of a DROP rule: ``drop("src4[10.0.0.0/8]", 7)``."""
    return f"{name}={{action: DROP, rule: {rule}}}"


def let(name: str, rule: int = 0) -> str:
    """The text of a PASS rule."""
    return f"{name}={{action: PASS, rule: {rule}}}"


def no_rule(name: str) -> str:
    """The text that takes a rule away, or makes a hole in a prefix."""
    return f"{name}={{action: NO_RULE}}"


def words(of: Map) -> dict[tuple[int, int], int]:
    """The 64-bit words of a per-CPU array that are not 0, summed over the CPUs, by (index, word)."""
    entries = of.info.max_entries
    values = bytes(sys_bpf.map_lookup_batch(of.fd.fileno(), None, entries, 4, of.entry_size).values)
    found: dict[tuple[int, int], int] = {}
    per_cpu = of.info.value_size // 8
    for start in range(0, len(values), _CHUNK):
        chunk = values[start : start + _CHUNK]
        if chunk == _ZEROS[: len(chunk)]:
            continue
        for at, word in enumerate(memoryview(chunk).cast("Q"), start // 8):
            if word:
                index, rest = divmod(at, of.entry_size // 8)
                key = index, rest % per_cpu
                found[key] = found.get(key, 0) + word
    return found


def duplicate(loaded: Loaded) -> Loaded:
    """The same program and maps with descriptors of their own."""
    maps = {name: Map(one.fd.duplicate()) for name, one in loaded.maps.items()}
    program = Program(loaded.program.fd.duplicate())
    return Loaded(loaded.spec, loaded.program_spec, program, loaded.image, maps)


class Shared(NamedTuple):
    """A loaded program that the tests of a session take turns with, and what reads its counters of rules."""

    loaded: Loaded
    hits: Tally


class Filter(ABC):
    """xdp_drop or tc_drop, running."""

    def __init__(self, shared: Shared, hook: Hook) -> None:
        self.loaded = shared.loaded
        self.maps = shared.loaded.maps
        self._hits = shared.hits
        self.xdp = hook is Hook.XDP
        self._written: set[str] = set()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {'xdp' if self.xdp else 'tc'}_drop>"

    def rules(self, *assignments: str) -> None:
        """Write rules and settings, as ``netbpf set`` does."""
        self._set(assignments)
        self._written.update(one.partition("=")[0] for one in assignments)

    @abstractmethod
    def _set(self, assignments: Sequence[str]) -> None: ...

    def clear(self) -> None:
        """No rules, and every setting as it was: other tests share the program."""
        for name in ("src4", "dst4", "src6", "dst6", "src_mac"):
            self.empty(name)
        arrays = ("proto[", "tcp_", "udp_")
        again = [one for one in SETTINGS if one.partition("=")[0] in self._written]
        again += [no_rule(name) for name in self._written if name.startswith(arrays)]
        if again:
            self._set(again)
        self._written.clear()

    def empty(self, name: str) -> None:
        """Remove every entry of a map of prefixes or MACs."""
        fd = self.maps[name].fd.fileno()
        for key in [bytes(key) for key, _ in self.maps[name].entries()]:
            sys_bpf.map_delete(fd, key)

    def counters(self) -> Counters:
        """All it counts, but zeros: ``hits[7].packets``, ``exceptions.link.bytes``, ``verdicts[1].packets``."""
        units = ("packets", "bytes")
        found = {}
        for (index, word), value in self._hits.read().items():
            found[f"hits[{index}].{units[word]}"] = value
        for (index, word), value in words(self.maps["netbpf_verdicts"]).items():
            found[f"verdicts[{index}].{units[word]}"] = value
        for (_, word), value in words(self.maps["exceptions"]).items():
            found[f"exceptions.{(LINK, MALFORMED)[word // 2]}.{units[word % 2]}"] = value
        return found

    def verdict_index(self, dropped: bool) -> int:
        """Where netbpf_verdicts counts it: XDP_DROP 1, XDP_PASS 2; TC_ACT_SHOT 2 and TC_ACT_UNSPEC -1, plus 1."""
        return (1 if dropped else 2) if self.xdp else (3 if dropped else 0)

    def expected(self, frames: Sequence[bytes], dropped: bool, by: Reason) -> Counters:
        """How the counters have to move for these frames."""
        decided = f"hits[{by}]" if isinstance(by, int) else f"exceptions.{by}"
        return {
            f"{name}.{unit}": amount
            for name in (decided, f"verdicts[{self.verdict_index(dropped)}]")
            for unit, amount in (("packets", len(frames)), ("bytes", sum(map(len, frames))))
        }

    def moves(
        self, frames: Sequence[bytes], *, dropped: bool, by: Reason, within: float = 2
    ) -> Changes:
        """A ``with`` block during which the counters move as for these frames, and in no other way."""
        return Changes(self.counters, self.expected(frames, dropped, by), within=within)

    def drops(self, *frames: bytes, by: Reason) -> None:
        """These frames are dropped, and counted for the rule with that number (or POLICY, MALFORMED)."""
        __tracebackhide__ = True
        self._judge(frames, True, by)

    def passes(self, *frames: bytes, by: Reason = POLICY) -> None:
        """These frames pass, and are counted for the rule with that number (or POLICY, LINK)."""
        __tracebackhide__ = True
        self._judge(frames, False, by)

    @abstractmethod
    def _judge(self, frames: Sequence[bytes], dropped: bool, by: Reason) -> None: ...


class OnWire(Filter):
    """A filter on a hook of a rig: frames are sent, and have to arrive or not."""

    def __init__(self, rig: Rig, shared: Shared) -> None:
        super().__init__(shared, Hook(rig.kind.hook))
        self.rig = rig
        self.attached = Attached(rig.wire.dut, rig.kind, duplicate(shared.loaded))
        self._arrived: Capture | None = None

    def _set(self, assignments: Sequence[str]) -> None:
        end = self.rig.wire.dut
        netbpf.set_values(end.ifname, assignments, netns=end.namespace)

    @property
    def arrived(self) -> Capture:
        """What got through the hook."""
        if self._arrived is None:
            ingress = self.rig.kind.hook == "tc/ingress"
            target = self.rig.target
            self._arrived = (
                target.capture("stack", protocols=ETHER_TYPES) if ingress else target.capture()
            )
        return self._arrived

    def send(self, *frames: bytes) -> None:
        """Send frames through the hook."""
        self.rig.source.send(*frames, may_drop=self.rig.kind.egress)

    def _judge(self, frames: Sequence[bytes], dropped: bool, by: Reason) -> None:
        __tracebackhide__ = True
        arrived = self.arrived
        with self.moves(frames, dropped=dropped, by=by):
            self.send(*frames)
        if dropped:
            # The counters say that all of them have been through the program.
            arrived.expect_none(until=lambda: True)
        else:
            arrived.expect(*frames)

    def close(self) -> None:
        """Leave the shared program as it was found. What is attached goes with its interface."""
        self.clear()
        self.attached.close()
        if self._arrived:
            self._arrived.close()


class InTestRun(Filter):
    """A filter that sits nowhere: TEST_RUN hands it one frame at a time."""

    def __init__(self, shared: Shared, hook: Hook) -> None:
        super().__init__(shared, hook)
        # The program is shared by all tests, and stays.
        self._program = BenchProgram(Bench(shared.loaded, hook), Evidence(), lambda _: None)
        self._access = Access([self._program.attachment], self._program.name)

    def _set(self, assignments: Sequence[str]) -> None:
        self._access.set(assignments)

    def run(self, frame: bytes) -> int:
        """The program's verdict."""
        return self._program.bench.run(frame).verdict

    def _judge(self, frames: Sequence[bytes], dropped: bool, by: Reason) -> None:
        __tracebackhide__ = True
        with self.moves(frames, dropped=dropped, by=by, within=0):
            words = {"xdp": ("pass", "drop"), "tc": ("unspec", "shot")}
            self._program.assert_verdict(words[self._program.kind.family][dropped], *frames)

    def close(self) -> None:
        """Leave the shared program as it was found."""
        with self._access:
            self.clear()
        self._program.close()
