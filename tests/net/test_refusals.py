"""Refused attachments: the kernel's own refusals for real, and those of drivers this machine lacks by a stand-in."""

import errno
import os
import re
import struct
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from netbpf._sys import bpf
from netbpf._sys.fd import Fd
from netbpf._sys.info import program_info
from netbpf.constants import AttachType, Hook, Mode, ProgType
from netbpf.errors import HookBusyError, KernelError, NetbpfError, NotSupportedError, ObjectError
from netbpf.model import Interface, TcFilter
from netbpf.net import ethtool, netlink, tc, tcx, xdp
from netbpf.net.interfaces import resolve
from netbpf.net.netns import Namespace
from netbpf.net.refusals import REFUSALS, Refusal
from netbpf.net.refusals_page import page
from netbpf.net.rtnetlink import Session

Ip = Callable[[str], str]
Load = Callable[..., Fd]
PAGE = Path(__file__).parents[2] / "docs" / "why-not-attach.md"
EACH = [(one, words) for one in REFUSALS for words in one.words]


def refused(session: Session, interface: Interface, load: Load, **options: object) -> NetbpfError:
    """How an XDP program is refused in native mode, over netlink; as a link it is refused the same way."""
    mode = options.pop("mode", Mode.NATIVE)
    assert isinstance(mode, Mode)
    program = load(**options)
    with pytest.raises(NetbpfError) as caught:
        xdp.attach(session, interface, program.fileno(), mode)
    with pytest.raises(type(caught.value)):
        xdp.attach_link(session, interface, program.fileno(), mode)
    assert xdp.query(session, interface) == []
    return caught.value


def commands(hint: str | None) -> list[str]:
    """The commands of ip, ethtool and tc in a hint."""
    return re.findall(r"\b(?:ip|ethtool|tc) [^;,:]*", hint or "")


# ------------------------------------------------------------------------------------- queues of a veth


@pytest.mark.parametrize(("most", "remedy"), [(1, "ethtool -L q1 tx 1"), (4, "ethtool -L q0 rx 4")])
def test_too_few_queues_of_a_veth_and_the_command_that_helps(
    session: Session, load: Load, run: Ip, most: int, remedy: str
) -> None:
    run(f"ip link add q0 numrxqueues {most} type veth peer name q1 numtxqueues 4")
    if most > 1:
        run("ethtool -L q0 rx 1")
    run("ethtool -L q1 tx 4")
    interface = resolve(session, "q0")
    error = refused(session, interface, load)
    assert isinstance(error, NotSupportedError)
    assert "it receives on 1 queue, and its other end q1 sends on 4" in error.message
    assert "XDP expects number of rx queues not less than peer tx queues" in error.message
    assert commands(error.hint) == [remedy]
    run(remedy)
    with xdp.attach_link(session, interface, load().fileno(), Mode.NATIVE):
        pass


def test_queues_of_a_veth_whose_other_end_is_elsewhere(
    session: Session, load: Load, run: Ip, other_space: Namespace
) -> None:
    run("ip link add q0 numrxqueues 1 type veth peer name q1 numtxqueues 4")
    run("ethtool -L q1 tx 4")
    child = other_space.run(subprocess.Popen, ["cat"], stdin=subprocess.PIPE)
    with child:
        run(f"ip link set q1 netns {child.pid}")
        child.communicate()
    error = refused(session, resolve(session, "q0"), load)
    assert "ethtool -L PEER tx 1" in (error.hint or "")


# ------------------------------------------------------------------------------------- above and below


@pytest.mark.parametrize("mode", [Mode.NATIVE, Mode.SKB])
def test_a_program_on_the_bridge_above(
    session: Session, veth: Interface, load: Load, run: Ip, mode: Mode
) -> None:
    run("ip link add br0 type bridge")
    run("ip link set v0 master br0")
    above = load(name="above")
    xdp.attach(session, resolve(session, "br0"), above.fileno(), Mode.SKB)
    error = refused(session, veth, load, mode=mode)
    assert isinstance(error, HookBusyError)
    assert re.search(
        r"program \d+ 'above' \(skb\) is on br0, which v0 is part of: Cannot attach", str(error)
    )
    assert "netbpf detach xdp br0 --force" in (error.hint or "")


def test_a_bridge_has_no_native_mode_but_its_ports_have(
    session: Session, veth: Interface, load: Load, run: Ip
) -> None:
    run("ip link add br0 type bridge")
    for port in ("v0", "v1"):
        run(f"ip link set {port} master br0")
    error = refused(session, resolve(session, "br0"), load)
    assert "the driver bridge refuses it" in error.message
    assert "netbpf attach xdp v0,v1" in (error.hint or "")
    xdp.attach(session, veth, load().fileno(), Mode.NATIVE)


@pytest.mark.parametrize("kind", [AttachType.XDP_DEVMAP, AttachType.XDP_CPUMAP])
def test_a_program_for_the_entries_of_a_map(
    session: Session, veth: Interface, kind: AttachType
) -> None:
    insns = struct.pack("=BBhiBBhi", 0xB7, 0, 0, 2, 0x95, 0, 0, 0)
    program, *_ = bpf.prog_load(bpf.ProgLoad(ProgType.XDP, insns, "GPL", expected_attach_type=kind))
    assert program is not None
    with program, pytest.raises(ObjectError, match=r"can not be attached to a device") as caught:
        xdp.attach(session, veth, program.fileno(), Mode.NATIVE)
    assert "--redirect" in (caught.value.hint or "")


def test_the_mtu_remedy_is_a_command_that_works(
    session: Session, veth: Interface, load: Load, run: Ip
) -> None:
    run("ip link set v1 mtu 9000")
    [remedy] = commands(refused(session, veth, load).hint)
    assert remedy.startswith("ip link set dev v1 mtu ")
    run(remedy)
    xdp.attach(session, veth, load().fileno(), Mode.NATIVE)


# ------------------------------------------------------------------------------------- qdiscs of others


def test_a_block_of_filters_that_others_share(
    session: Session, veth: Interface, load: Load, run: Ip
) -> None:
    run("tc qdisc add dev v0 ingress_block 7 clsact")
    program = load(ProgType.SCHED_CLS)
    with pytest.raises(HookBusyError, match=r"a block that other interfaces use too") as caught:
        tc.attach(session, veth, Hook.TC_INGRESS, program.fileno(), name="x", priority=1)
    assert "--link" in (caught.value.hint or "")
    assert "ingress_block 7" in run("tc qdisc show dev v0")  # where the hint says the number is
    tc.attach(session, veth, Hook.TC_EGRESS, program.fileno(), name="x", priority=1)


def test_what_is_on_an_ingress_qdisc_is_named(
    session: Session, veth: Interface, load: Load, run: Ip
) -> None:
    run("tc qdisc add dev v0 ingress")
    with pytest.raises(HookBusyError, match="with no filters on it"):
        tc.ensure_clsact(session, veth)
    program = load(ProgType.SCHED_CLS, name="theirs")
    for handle in range(1, 6):
        place = TcFilter(handle, 1, tc.ETH_P_ALL, 0, "theirs")
        netlink.add_filter(session, veth.index, Hook.TC_INGRESS, place, program.fileno())
    words = r"with (program \d+ 'theirs'(, )?){3} and 2 more on it"
    with pytest.raises(HookBusyError, match=words) as caught:
        tc.ensure_clsact(session, veth)
    [remedy] = commands(caught.value.hint)
    run(remedy.removesuffix(" or attach with --link (TCX)"))
    assert tc.ensure_clsact(session, veth)


def test_who_holds_a_tcx_link_is_named(session: Session, veth: Interface, load: Load) -> None:
    program = load(ProgType.SCHED_CLS)
    space, number = session.namespace, program_info(program.fileno()).id
    with tcx.attach_link(space, veth, Hook.TC_INGRESS, program.fileno()):
        words = rf"link holds program {number} on .*: bpf_link \d+ holds it, kept by process {os.getpid()} "
        with pytest.raises(HookBusyError, match=words) as caught:
            tcx.detach(space, veth, Hook.TC_INGRESS, number)
    assert "netbpf detach tc v0 --force" in (caught.value.hint or "")


# ------------------------------------------------------------------------------------- drivers that are not here


@pytest.fixture
def answers(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Let the kernel refuse with some words: at the lowest door, where the answer of netlink comes in."""

    def refuse(number: int, words: str, asked: dict[int, bytes] | None = None) -> None:
        def set_xdp(*_: object) -> None:
            raise KernelError("RTM_SETLINK", number, words)

        def ask(session: Session, name: str, request: bytes) -> bytes | None:
            return (asked or {}).get(struct.unpack_from("=I", request)[0])

        monkeypatch.setattr(netlink, "set_xdp", set_xdp)
        monkeypatch.setattr(ethtool, "_ask", ask)

    return refuse


def said(session: Session, interface: Interface) -> NetbpfError:
    with pytest.raises(NetbpfError) as caught:
        xdp.attach(session, interface, 0, Mode.NATIVE)
    return caught.value


def offloads(*on: str, fixed: bool = False) -> dict[int, bytes]:
    """What ETHTOOL_GSSET_INFO, GSTRINGS and GFEATURES would answer."""
    names = ["rx-checksum", "rx-lro", "rx-gro-hw"]
    active = sum(1 << number for number, name in enumerate(names) if name in on)
    strings = b"".join(name.encode().ljust(32, b"\0") for name in names)
    return {
        0x37: struct.pack("=IIQI", 0x37, 0, 1 << 4, len(names)),
        0x1B: struct.pack("=III", 0x1B, 4, len(names)) + strings,
        0x3A: struct.pack("=II4I", 0x3A, 1, 0 if fixed else 0b111, active, active, 0),
    }


def queues(combined: int, most: int, name: str = "ena", tx: int = 0) -> dict[int, bytes]:
    """What ETHTOOL_GCHANNELS and GDRVINFO would answer."""
    return {
        0x3C: struct.pack("=9I", 0x3C, most, most, 0, most, tx, tx, 0, combined),
        0x03: struct.pack("=I", 3) + name.encode().ljust(192, b"\0"),
    }


@pytest.mark.parametrize(("row", "words"), EACH, ids=[words for _, words in EACH])
def test_each_refusal_of_the_catalogue(
    session: Session, veth: Interface, answers: Callable[..., None], row: Refusal, words: str
) -> None:
    """A stand-in answers for drivers that are not here; EBUSY and EEXIST must not become "the hook is taken"."""
    for number in (errno.EINVAL, errno.EOPNOTSUPP, errno.EBUSY, errno.EEXIST, errno.ENOMEM):
        answers(number, f"driver: {words}")
        error = said(session, veth)
        assert type(error) is row.error
        assert words in error.message
        assert error.hint
        assert not re.search(r"`|\beth0\b", error.message + error.hint)
    assert next(one for one in REFUSALS if one.fits(words)) is row


@pytest.mark.parametrize(
    ("words", "limit"),
    [
        ("XDP: mtu:9000 too large, mtu_max:3506", 3506),
        ("MTU 9000 larger than 3498, which is the largest", 3498),
        ("mtu:9000 > max:3500 when XDP is on", 3500),
        ("Jumbo frames are not supported by XDP, current MTU 9000", 1500),
        ("XDP: mtu too large", 1500),
    ],
)
def test_the_limit_of_the_mtu_is_taken_from_the_words(
    session: Session, run: Ip, answers: Callable[..., None], words: str, limit: int
) -> None:
    """A stand-in for mana, bnxt, mlx4, mvneta and netvsc, on a bridge: only of a veth is the limit known."""
    run("ip link add br0 mtu 9000 type bridge")
    answers(errno.EINVAL, words)
    error = said(session, resolve(session, "br0"))
    assert "its MTU (9000 bytes) is too large" in error.message
    assert (error.hint or "").endswith(f"ip link set dev br0 mtu {limit}")
    assert 'SEC("xdp.frags")' in (error.hint or "")
    assert "--mode skb" in (error.hint or "")


GRO_HW = "Can't set XDP while host is implementing GRO_HW/CSUM, disable GRO_HW/CSUM first"


@pytest.mark.parametrize(
    ("words", "state", "remedy"),
    [
        (GRO_HW, offloads("rx-gro-hw"), "ethtool -K v0 gro-hw off"),
        (GRO_HW, offloads("rx-gro-hw", "rx-checksum"), "ethtool -K v0 gro-hw off rx off"),
        (GRO_HW, offloads("rx-checksum", fixed=True), "guest_csum=off"),
        ("XDP: not support LRO", offloads("rx-lro", "rx-checksum"), "ethtool -K v0 lro off"),
        ("XDP: not support LRO", {}, "ethtool -K v0 lro off"),
    ],
)
def test_offloads_that_join_packets(
    session: Session, veth: Interface, answers: Callable[..., None],
    words: str, state: dict[int, bytes], remedy: str,
) -> None:  # fmt: skip
    """A stand-in for virtio_net and netvsc."""
    answers(errno.EOPNOTSUPP, words, state)
    error = said(session, veth)
    assert isinstance(error, NotSupportedError)
    assert f"{remedy}" in re.split("[;)]", error.hint or "")[0]
    assert ("cannot be switched off here" in error.message) == ("guest" in remedy)


@pytest.mark.parametrize(
    ("words", "state", "remedy"),
    [
        ("there is no enough space for allocating XDP queues", queues(8, 8), "combined 4"),
        ("Too few free TX rings available", queues(8, 4096, "virtio_net"), "combined 409"),
        ("Too few free TX rings available", queues(1, 1, "virtio_net"), "--mode skb"),
        ("ethtool rx/tx channels must be combined to support XDP", queues(0, 8, tx=4), "rx 0 tx 0 combined 4"),
    ],
)  # fmt: skip
def test_queues_that_are_missing(
    session: Session, veth: Interface, answers: Callable[..., None],
    words: str, state: dict[int, bytes], remedy: str,
) -> None:  # fmt: skip
    """A stand-in for ena, virtio_net before Linux 5.13, and bnxt."""
    answers(errno.ENOMEM, words, state)
    error = said(session, veth)
    assert isinstance(error, NotSupportedError)
    assert remedy in (error.hint or "")


def test_a_driver_that_says_nothing(
    session: Session, run: Ip, answers: Callable[..., None]
) -> None:
    """A stand-in for mlx5, which writes its reason into the kernel's log only."""
    run("ip link add br0 mtu 9000 type bridge")
    answers(errno.EINVAL, "", offloads("rx-lro"))
    error = said(session, resolve(session, "br0"))
    assert isinstance(error, KernelError)
    assert "lro is on; its MTU is 9000" in error.message
    assert "dmesg" in (error.hint or "")
    assert "ethtool -K br0 lro off" in (error.hint or "")
    answers(errno.EINVAL, "something new")
    assert said(session, resolve(session, "br0")).message.endswith("(EINVAL): something new")


def test_an_interface_that_has_to_be_up(
    session: Session, veth: Interface, answers: Callable[..., None]
) -> None:
    """A stand-in: no driver of this machine asks for it."""
    answers(errno.ENETDOWN, "")
    error = said(session, veth)
    assert "the interface is down" in error.message
    assert error.hint == "ip link set dev v0 up"


# ------------------------------------------------------------------------------------- what is read


def test_channels_and_features_are_those_of_ethtool(session: Session, run: Ip) -> None:
    run("ip link add q0 numrxqueues 3 numtxqueues 2 type veth peer name q1")
    found = ethtool.channels(session, "q0")
    assert found is not None
    assert (found.max_rx, found.max_tx, found.max_combined) == (3, 2, 0)
    assert ethtool.channels(session, "absent") is None
    assert ethtool.features(session, "absent") == {}
    mine = ethtool.features(session, "q0")
    shown = re.findall(r"^\s*([\w-]+): (on|off)( \[fixed\])?", run("ethtool -k q0"), re.MULTILINE)
    same = {name: (state == "on", bool(fixed)) for name, state, fixed in shown if name in mine}
    assert len(same) > 20
    assert {name: tuple(mine[name]) for name in same} == same


def test_the_page_is_what_the_catalogue_says() -> None:
    assert PAGE.read_text() == page(), "python -m netbpf.net.refusals_page > docs/why-not-attach.md"
