import os
import subprocess
from collections.abc import Callable, Iterator

import pytest

from netbpf.errors import InterfaceNotFoundError, UsageError
from netbpf.model import Interface
from netbpf.net.devices import devices
from netbpf.net.ethtool import driver
from netbpf.net.interfaces import by_index, expand, resolve
from netbpf.net.netns import Namespace
from netbpf.net.rtnetlink import Session

Ip = Callable[[str], str]


@pytest.fixture
def pairs(run: Ip) -> None:
    run("ip link add v0 type veth peer name v1")
    run("ip link add w0 type veth peer name w1")


def names(found: list[Interface]) -> list[str]:
    return [one.name for one in found]


# -------------------------------------------------------------------------------------------- resolve


def test_resolve(session: Session, veth: Interface, run: Ip) -> None:
    assert veth.name == "v0"
    assert veth.netns == session.namespace.inode
    assert run("ip -o link show v0").split(":")[0] == str(veth.index)


def test_resolve_an_alternative_name(session: Session, veth: Interface, run: Ip) -> None:
    long_name = "an-alternative-name-longer-than-fifteen"
    run(f"ip link property add dev v0 altname {long_name} altname short")
    assert resolve(session, long_name) == resolve(session, "short") == veth


def test_resolve_takes_a_name_of_digits_as_a_name(
    session: Session, veth: Interface, run: Ip
) -> None:
    with pytest.raises(InterfaceNotFoundError, match=f"no interface '{veth.index}'") as caught:
        resolve(session, str(veth.index))
    assert caught.value.hint == f"ifindex {veth.index} is v0"
    run(f"ip link set v1 name {veth.index}")
    assert resolve(session, str(veth.index)).index != veth.index


@pytest.mark.parametrize("name", ["eno1235", "v00", "v0 ", "a" * 15, "a" * 16, "7" * 30, "999999"])
def test_an_absent_name(session: Session, veth: Interface, name: str) -> None:
    with pytest.raises(InterfaceNotFoundError, match=f"'{name}'") as caught:
        resolve(session, name)
    assert caught.value.exit_code == 6


def test_an_absent_name_gives_near_ones_or_all(session: Session, run: Ip) -> None:
    run("ip link add uplink0 type veth peer name uplink1")
    for name, hint in [("uplnk0", "did you mean uplink0"), ("x", "interfaces here: lo, uplink0")]:
        with pytest.raises(InterfaceNotFoundError) as caught:
            resolve(session, name)
        assert hint in (caught.value.hint or "")


@pytest.mark.parametrize(
    "name",
    ["invalid/interface/%22erwt", "a b", "a\nb", "a\0b", ".", "..", "a:b", "x" * 128, "x" * 9000],
)
def test_a_name_that_cannot_be(session: Session, name: str) -> None:
    with pytest.raises(
        InterfaceNotFoundError, match="cannot be the name of an interface"
    ) as caught:
        resolve(session, name)
    assert "\n" not in caught.value.message


def test_an_empty_name(session: Session) -> None:
    with pytest.raises(InterfaceNotFoundError, match="the interface name is empty"):
        resolve(session, "")


def test_the_name_says_which_namespace_was_searched(session: Session) -> None:
    with pytest.raises(
        InterfaceNotFoundError, match=rf"in network namespace net:\[{session.namespace.inode}"
    ):
        resolve(session, "v9")


@pytest.fixture
def blue() -> Iterator[str]:
    name = f"netbpf-test-blue-{os.getpid()}"
    subprocess.run(["ip", "netns", "add", name], check=True)
    yield name
    subprocess.run(["ip", "netns", "delete", name], check=True)


def test_an_interface_of_another_namespace_is_pointed_out(session: Session, blue: str) -> None:
    name = f"hidden{os.getpid()}"
    line = f"ip -n {blue} link add {name} type veth peer name other"
    subprocess.run(line.split(), check=True)
    with pytest.raises(InterfaceNotFoundError, match=f"no interface '{name}'") as caught:
        resolve(session, name)
    assert caught.value.hint == f"there is one elsewhere: --netns {blue}"


def test_the_same_name_in_two_namespaces(
    session: Session, veth: Interface, other_space: Namespace
) -> None:
    # Another number of interfaces before it, so that the indexes differ.
    for line in ("ip link add a0 type veth peer name a1", "ip link add v0 type veth peer name v1"):
        other_space.run(subprocess.run, line.split(), check=True)
    with Session(other_space) as other:
        there = resolve(other, "v0")
    assert resolve(session, "v0") == veth
    assert (there.name, there.netns) == ("v0", other_space.inode)
    assert there.index != veth.index


def test_rename_and_removal(session: Session, veth: Interface, run: Ip) -> None:
    run("ip link set v0 name renamed")
    assert by_index(session, veth.index) == Interface("renamed", veth.index, veth.netns)
    run("ip link delete renamed")
    assert by_index(session, veth.index) is None


# --------------------------------------------------------------------------------------------- expand


@pytest.mark.usefixtures("pairs")
@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ("v0", ["v0"]),
        ("w0,v0", ["w0", "v0"]),
        ("v*", ["v1", "v0"]),
        ("?1", ["v1", "w1"]),
        ("[vw]0", ["v0", "w0"]),
        ("w0,*0", ["w0", "v0"]),
        ("v0,v0", ["v0"]),
        ("*", ["lo", "v1", "v0", "w1", "w0"]),
    ],
)
def test_expand(session: Session, spec: str, expected: list[str]) -> None:
    assert names(expand(session, spec)) == expected


@pytest.mark.usefixtures("pairs")
@pytest.mark.parametrize("spec", ["x*", "v0,x*", "[", "V*", "v0,v9"])
def test_expand_with_something_that_is_not_there(session: Session, spec: str) -> None:
    with pytest.raises(InterfaceNotFoundError, match="no interface"):
        expand(session, spec)


@pytest.mark.parametrize("spec", ["", ",", "lo,", ",lo", "lo,,lo"])
def test_expand_with_an_empty_part(session: Session, spec: str) -> None:
    with pytest.raises(UsageError, match="empty interface name"):
        expand(session, spec)


def test_expand_prefers_the_interface_of_that_very_name(session: Session, run: Ip) -> None:
    run("ip link add v* type veth peer name a,b")
    run("ip link add v0 type veth peer name v1")
    assert names(expand(session, "v*")) == ["v*"]
    assert names(expand(session, "a,b")) == ["a,b"]


# ---------------------------------------------------------------------------------------------- facts


def test_driver(session: Session, veth: Interface) -> None:
    assert driver(session, veth.name) == "veth"
    assert driver(session, "lo") is None
    assert driver(session, "absent") is None


def test_what_a_device_shows(session: Session, run: Ip) -> None:
    run("ip link add v0 address 02:00:00:00:00:01 mtu 1400 type veth peer name v1")
    run("ip link set v0 up")
    by_name = {one.name: one for one in devices(session)}
    v0, v1 = by_name["v0"], by_name["v1"]
    assert (v0.mtu, v0.kind, v0.address) == (1400, "veth", bytes.fromhex("020000000001"))
    assert (v0.peer, v1.peer) == (v1.ifindex, v0.ifindex)
    assert (v0.flags & 1, v1.flags & 1) == (1, 0)
    assert v1.operstate == "down"
    assert by_name["lo"].kind == ""


def test_more_interfaces_than_one_message_holds(session: Session, space: Namespace) -> None:
    lines = "".join(f"link add n{number} type veth peer name m{number}\n" for number in range(100))
    space.run(subprocess.run, ["ip", "-batch", "-"], input=lines, text=True, check=True)
    found = devices(session)
    assert len(found) == 201
    assert [one.ifindex for one in found] == sorted({one.ifindex for one in found})
    assert len(expand(session, "n*")) == 100
