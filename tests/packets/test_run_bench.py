"""One packet through one program: verdicts, contexts, limits, and which program it is."""

import errno
import struct
import subprocess
from collections.abc import Mapping

import pytest

from netbpf._sys import bpf as sys_bpf
from netbpf.constants import Hook
from netbpf.errors import (
    InterfaceNotFoundError,
    KernelError,
    NotSupportedError,
    ObjectError,
    PermissionDeniedError,
    UsageError,
    VerifierError,
)
from netbpf.net.netns import Namespace
from netbpf.packets.context import SKB_SIZE, XDP_SIZE, Context
from netbpf.packets.limits import limits
from netbpf.packets.refusals import refusal
from netbpf.packets.testrun import Bench
from tests.packets.run_sources import CHANGING, REDIRECT, TC, XDP, built
from tests.support.compiling import compile_object

FRAME = bytes(range(12)) + b"\x88\xb5" + bytes(46)
PASS_BOTH = """
SEC("xdp") int first(struct xdp_md *ctx) { return XDP_DROP; }
SEC("tc") int second(struct __sk_buff *skb) { return TC_ACT_SHOT; }
"""
NAMELESS = 'SEC("whatever") int one(void *ctx) { return 2; }'


def variable(bench: Bench, name: str) -> Mapping[str, object]:
    [section] = [one for one in bench.maps().values() if name in one.variable_names()]
    values = section.value(section.map.lookup(bytes(4)) or b"")
    assert isinstance(values, dict)
    found = values[name]
    assert isinstance(found, dict)
    return found


# --- verdicts ---


@pytest.mark.parametrize(
    ("number", "name"),
    [(0, "aborted"), (1, "drop"), (2, "pass"), (3, "tx"), (4, "redirect"), (9, "9")],
)
def test_verdicts_of_xdp(number: int, name: str) -> None:
    with Bench.open(built(XDP), settings={"verdict": number}) as bench:
        outcome = bench.run(FRAME)
    assert (outcome.verdict, outcome.verdict_name) == (number, name)


@pytest.mark.parametrize(
    ("number", "name"), [(-1, "unspec"), (0, "ok"), (2, "shot"), (7, "redirect"), (-5, "-5")]
)
def test_verdicts_of_tc_are_signed(number: int, name: str) -> None:
    with Bench.open(built(TC), settings={"verdict": number}) as bench:
        outcome = bench.run(FRAME)
    assert (outcome.verdict, outcome.verdict_name) == (number, name)


def test_the_packet_afterwards_is_whole_and_the_program_keeps_its_maps() -> None:
    with Bench.open(built(XDP)) as bench:
        outcomes = [bench.run(FRAME + bytes(extra)) for extra in (0, 1, 1000)]
        [section] = [one for one in bench.maps().values() if "runs" in one.variable_names()]
        values = section.value(section.map.lookup(bytes(4)) or b"")
    assert [one.data for one in outcomes] == [FRAME + bytes(extra) for extra in (0, 1, 1000)]
    assert all(one.duration_ns > 0 for one in outcomes)
    assert isinstance(values, dict)
    assert values["runs"] == 3


def test_metadata_the_program_puts_before_the_packet_is_not_part_of_it() -> None:
    with Bench.open(built(CHANGING), settings={"what": 3}) as bench:
        outcome = bench.run(FRAME)
    assert (outcome.meta, outcome.data) == (b"\1\2\3\4", FRAME)


def test_a_packet_that_grows_is_given_back_whole() -> None:
    with Bench.open(built(CHANGING), settings={"what": 2}) as bench:
        data = bench.run(FRAME).data
    assert data == FRAME[:12] + b"\x81\x00\x00\x05" + FRAME[12:]


# --- limits ---


@pytest.mark.parametrize("size", [0, 1, 13])
@pytest.mark.parametrize("source", [XDP, TC], ids=["xdp", "tc"])
def test_less_than_an_ethernet_header_is_refused_with_the_limit(source: str, size: int) -> None:
    with Bench.open(built(source)) as bench, pytest.raises(UsageError) as error:
        bench.run(bytes(size))
    assert (
        error.value.message
        == f"a packet of {size} bytes cannot be run: TEST_RUN takes no less than 14"
    )


@pytest.mark.parametrize("source", [XDP, TC], ids=["xdp", "tc"])
@pytest.mark.parametrize("size", [14, 15, 60, 1500, 1514, 1515, 3000])
def test_from_an_ethernet_header_to_above_the_mtu_runs(source: str, size: int) -> None:
    with Bench.open(built(source)) as bench:
        outcome = bench.run(bytes(size))
    assert (len(outcome.data), outcome.linear) == (size, size)


@pytest.mark.parametrize(
    ("ethertype", "name", "needed"), [(b"\x08\x00", "IPv4", 34), (b"\x86\xdd", "IPv6", 54)]
)
def test_tc_takes_no_ip_packet_without_its_header(ethertype: bytes, name: str, needed: int) -> None:
    frame = bytes(12) + ethertype
    with Bench.open(built(TC)) as bench, Bench.open(built(XDP)) as other:
        assert bench.run(frame.ljust(needed, b"\0")).verdict_name == "ok"
        assert other.run(frame).verdict_name == "pass"
        with pytest.raises(NotSupportedError) as error:
            bench.run(frame.ljust(needed - 1, b"\0"))
    assert error.value.message == (
        f"a packet of {needed - 1} bytes is too short: TEST_RUN takes {name} packets for tc from {needed} bytes on"
    )


@pytest.mark.parametrize(
    ("source", "hook"), [(XDP, Hook.XDP), (TC, Hook.TC_INGRESS)], ids=["xdp", "tc"]
)
def test_the_longest_packet_runs_and_one_byte_more_is_refused_with_the_limit(
    source: str, hook: Hook
) -> None:
    most = limits(hook).maximum
    with Bench.open(built(source)) as bench:
        assert len(bench.run(bytes(most)).data) == most
        with pytest.raises(NotSupportedError) as error:
            bench.run(bytes(most + 1))
    kind = "xdp" if hook is Hook.XDP else "tc"
    assert error.value.message == (
        f"a packet of {most + 1} bytes is too long: this kernel's TEST_RUN takes {most} for {kind}"
    )


def test_a_refused_packet_leaves_the_program_uncounted() -> None:
    with Bench.open(built(XDP)) as bench:
        for size in (13, 1 << 20):
            with pytest.raises((UsageError, NotSupportedError)):
                bench.run(bytes(size))
        assert bench.run(FRAME).verdict_name == "pass"
        [section] = [one for one in bench.maps().values() if "runs" in one.variable_names()]
        values = section.value(section.map.lookup(bytes(4)) or b"")
    assert isinstance(values, dict)
    assert values["runs"] == 1


def test_of_a_long_xdp_packet_only_the_first_part_is_in_one_piece() -> None:
    with Bench.open(built(XDP)) as bench:
        outcome = bench.run(bytes(5000))
        assert variable(bench, "seen")["length"] == outcome.linear
    assert len(outcome.data) == 5000
    assert 0 < outcome.linear < 5000


# --- the context of XDP ---


def test_xdp_sees_interface_queue_and_metadata() -> None:
    space = Namespace.create()
    link = "ip link add veth0 numrxqueues 4 numtxqueues 4 type veth peer name veth1"
    with space, Bench.open(built(XDP)) as bench:
        space.run(subprocess.run, link.split(), check=True)
        index = int(
            space.run(subprocess.check_output, ["ip", "-o", "link", "show", "veth0"]).split(b":")[0]
        )
        meta = struct.pack("<II", 0x11223344, 0)
        outcome = space.run(bench.run, FRAME, Context(ifindex=index, rx_queue=3, meta=meta))
        assert variable(bench, "seen") == {
            "ifindex": index, "queue": 3, "meta": 8, "first": 0x11223344, "length": len(FRAME),
        }  # fmt: skip
        assert (outcome.meta, outcome.data) == (meta, FRAME)
        with pytest.raises(UsageError, match=r"^veth0 has no rx queue 4$") as error:
            space.run(bench.run, FRAME, Context(ifindex=index, rx_queue=4))
        assert error.value.hint == "it has 4, counted from 0"


@pytest.mark.parametrize(
    ("context", "kind", "message"),
    [
        (Context(ifindex=987654), InterfaceNotFoundError, "no interface with index 987654 in this network namespace"),
        (Context(rx_queue=1), UsageError, "rx queue 1 of which interface?"),
        (Context(meta=b"123"), UsageError, "metadata of 3 bytes: the kernel takes multiples of 4"),
        (Context(meta=bytes(252)), NotSupportedError, "metadata of 252 bytes is too long: this kernel's "),
        (Context(mark=1), UsageError, "mark is for tc programs, and this one is for xdp"),
        (Context(cb=(1,)), UsageError, "cb is for tc programs, and this one is for xdp"),
    ],
)  # fmt: skip
def test_contexts_that_xdp_cannot_have(
    context: Context, kind: type[Exception], message: str
) -> None:
    with Bench.open(built(XDP)) as bench, pytest.raises(kind) as error:
        bench.run(FRAME, context)
    assert str(error.value).startswith(message)


def test_the_longest_metadata_is_taken() -> None:
    most = limits(Hook.XDP).meta
    assert most % 4 == 0
    with Bench.open(built(XDP)) as bench:
        assert bench.run(FRAME, Context(meta=bytes(most))).verdict_name == "pass"
        with pytest.raises(NotSupportedError, match=f"takes {most}$"):
            bench.run(FRAME, Context(meta=bytes(most + 4)))


# --- the context of TC ---


def test_tc_sees_what_was_set() -> None:
    context = Context(
        mark=1, priority=2, ifindex=1, ingress_ifindex=4, cb=(5, 6, 7), gso_segs=3, wire_len=900
    )
    with Bench.open(built(TC)) as bench:
        after = bench.run(FRAME, context).context
        assert variable(bench, "seen") == {
            "mark": 1, "priority": 2, "ifindex": 1, "ingress": 4, "cb": [5, 6, 7, 0, 0], "protocol": 0x88B5,
            "wire_len": 900, "gso_segs": 3,
        }  # fmt: skip
    assert (after.mark, after.priority, after.cb) == (1, 2, (5, 6, 7, 0, 0))


def test_tc_gives_its_context_back() -> None:
    with Bench.open(built(TC), settings={"new_mark": 0xFF}) as bench:
        after = bench.run(FRAME, Context(mark=1, cb=(1,))).context
    assert (after.mark, after.cb) == (0xFF, (1, 0, 0, 7, 0))


def test_the_protocol_is_written_into_the_packet() -> None:
    with Bench.open(built(TC)) as bench:
        outcome = bench.run(FRAME, Context(protocol=0x86DD))
        assert variable(bench, "seen")["protocol"] == 0x86DD
    assert outcome.data == FRAME[:12] + b"\x86\xdd" + FRAME[14:]


@pytest.mark.parametrize(
    ("context", "kind", "message"),
    [
        (Context(wire_len=3), UsageError, "the kernel does not take wire_len 3"),
        (Context(gso_segs=70000), UsageError, "gso_segs is at most 65535, not 70000"),
        (Context(ifindex=987654), InterfaceNotFoundError, "no interface with index 987654"),
        (Context(rx_queue=1), UsageError, "rx_queue is for xdp programs, and this one is for tc"),
        (Context(meta=b"1234"), UsageError, "meta is for xdp programs, and this one is for tc"),
    ],
)  # fmt: skip
def test_contexts_that_tc_cannot_have(
    context: Context, kind: type[Exception], message: str
) -> None:
    with Bench.open(built(TC)) as bench, pytest.raises(kind) as error:
        bench.run(FRAME, context)
    assert str(error.value).startswith(message)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"mark": 1 << 32}, "mark 4294967296 does not fit into 32 bits"),
        ({"priority": -1}, "priority -1 does not fit into 32 bits"),
        ({"protocol": 65536}, "protocol 65536 does not fit into 16 bits"),
        ({"cb": (0, 1 << 40)}, "cb 1099511627776 does not fit into 32 bits"),
        ({"cb": (1,) * 6}, "cb has 5 words, not 6"),
    ],
)
def test_values_that_do_not_fit(values: dict[str, int], message: str) -> None:
    with pytest.raises(UsageError) as error:
        Context(**values)  # type: ignore[arg-type]
    assert error.value.message == message


def test_sizes_of_contexts_are_the_kernels() -> None:
    assert (XDP_SIZE, SKB_SIZE) == (24, 192)


# --- which program, which hook ---


def test_the_section_tells_the_hook() -> None:
    with Bench.open("builtin:xdp_count") as one, Bench.open("builtin:tc_count") as other:
        assert (one.hook, other.hook) == (Hook.XDP, Hook.TC_INGRESS)


def test_programs_for_both_need_a_choice() -> None:
    with pytest.raises(ObjectError) as error:
        Bench.open(built(PASS_BOTH))
    assert (
        error.value.message
        == "object holds programs that fit xdp and tc: first (section xdp), second (section tc)"
    )
    assert error.value.hint == "choose one with -n NAME, or say --hook xdp or --hook tc"
    with Bench.open(built(PASS_BOTH), program="second") as bench:
        assert bench.run(FRAME).verdict_name == "shot"
    with Bench.open(built(PASS_BOTH), hook=Hook.XDP) as bench:
        assert bench.run(FRAME).verdict_name == "drop"


def test_a_section_that_says_nothing_needs_a_hook() -> None:
    with pytest.raises(ObjectError, match="fit xdp and tc"):
        Bench.open(built(NAMELESS))
    with Bench.open(built(NAMELESS), hook=Hook.TC_EGRESS) as bench:
        assert bench.run(FRAME).verdict_name == "shot"


def test_an_unknown_program_has_near_names() -> None:
    with pytest.raises(ObjectError) as error:
        Bench.open(built(PASS_BOTH), program="secnod")
    assert error.value.hint == "did you mean second?"


def test_programs_of_devmap_entries_are_refused_as_what_they_are() -> None:
    with pytest.raises(NotSupportedError) as error:
        Bench.open(built(REDIRECT), program="target")
    assert error.value.message == (
        "target runs in an entry of a devmap, and the kernel's TEST_RUN takes no such program"
    )


def test_a_rejected_program_is_explained_as_ever() -> None:
    with pytest.raises(VerifierError) as error:
        Bench.open(compile_object("rejected"), program="packet")
    assert error.value.log
    assert error.value.code is not None


def test_maps_get_the_size_asked_for() -> None:
    with Bench.open(built(REDIRECT), program="by_map", map_sizes={"ports": 77}) as bench:
        assert bench.maps()["ports"].info.max_entries == 77


# --- what else can fail ---


@pytest.mark.parametrize(
    ("number", "kind", "message"),
    [
        (errno.EPERM, PermissionDeniedError, "no permission to run a program on a packet"),
        (524, NotSupportedError, "this kernel has no TEST_RUN for programs of this kind"),
        (errno.EBADF, KernelError, "BPF_PROG_TEST_RUN"),
    ],
)
def test_other_failures_keep_their_meaning(
    number: int, kind: type[Exception], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Bench.open(built(XDP)) as bench:
        monkeypatch.setattr(sys_bpf, "_syscall", lambda *_: -number)
        with pytest.raises(kind, match=message):
            bench.run(FRAME)


def test_an_invalid_argument_nobody_understands_stays_itself() -> None:
    error = KernelError("BPF_PROG_TEST_RUN", errno.EINVAL)
    assert refusal(error, Hook.XDP, FRAME, Context()) is error
