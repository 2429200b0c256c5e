"""Interfaces that are deleted, made again, renamed or moved, and namespaces that vanish."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from netbpf import Namespace, api
from netbpf.constants import Hook, ProgType
from netbpf.errors import (
    InterfaceNotFoundError,
    NamespaceNotFoundError,
    NotAttachedError,
    NotManagedError,
)
from netbpf.model import TcFilter
from netbpf.net import netlink
from netbpf.net.rtnetlink import Session
from tests.faults.lab import Lab
from tests.faults.ways import Way, each_way, tc, xdp
from tests.support.foreign import foreign_program
from tests.support.waiting import eventually, exists


def put(lab: Lab, way: Way, interfaces: str = "v0") -> list[int]:
    """Attach, and the ids of the programs."""
    with api.attach(way.hook, interfaces, way.first, netns=lab.namespace, **way.options) as made:
        ids = [one.program.id for one in made.attachments]
        made.results = []  # they stay
    return ids


# --- deleted ---


@each_way
def test_a_deleted_interface(lab: Lab, way: Way) -> None:
    ids = put(lab, way)
    lab.ip("link del v0")
    assert lab.status() == []
    (done,) = api.detach("v0", netns=lab.namespace)
    assert (done.interface, done.hook, done.gone) == ("v0", way.hook, "interface v0 is gone")
    lab.assert_nothing_left()
    for one in ids:
        eventually(lambda number=one: not exists("PROG", number), "the program stays")  # type: ignore[misc]
    with pytest.raises(InterfaceNotFoundError):
        api.detach("v0", netns=lab.namespace)


@each_way
def test_deleted_and_made_again(lab: Lab, way: Way) -> None:
    """Another interface of the same name: nothing is on it, and it takes a program."""
    put(lab, way)
    lab.ip("link del v0")
    lab.ip("link add v0 type veth peer name v1")
    assert lab.status() == []
    put(lab, way)
    assert [one.managed for one in lab.status()] == [True]
    (done,) = api.detach("v0", netns=lab.namespace)
    assert done.gone is None
    lab.assert_nothing_left()


@each_way
def test_made_again_with_the_same_index(lab: Lab, way: Way) -> None:
    """Even the ifindex is the old one: the record of the program that is gone does not count."""
    put(lab, way)
    index = lab.status()[0].occupant.interface.index
    lab.ip("link del v0")
    lab.ip(f"link add v0 index {index} type veth peer name v1")
    assert lab.status() == []
    lab.namespace.run(
        subprocess.run, ["tc", "qdisc", "add", "dev", "v0", "clsact"], check=True
    )  # somebody else's
    (done,) = api.detach("v0", netns=lab.namespace)
    assert done.gone == "v0 had lost it already"
    assert lab.files() == []
    assert lab.pins() == []
    assert lab.status() == []


def test_a_program_taken_off_by_others(lab: Lab) -> None:
    put(lab, xdp(mode="skb"))
    lab.ip("link set v0 xdpgeneric off")
    assert lab.status() == []
    assert put(lab, xdp(mode="skb"))
    lab.ip("link set v0 xdpgeneric off")
    (done,) = api.detach("v0", netns=lab.namespace)
    assert done.gone == "v0 had lost it already"
    with pytest.raises(NotAttachedError):
        api.detach("v0", netns=lab.namespace)
    lab.assert_nothing_left()


def test_a_filter_taken_off_by_others(lab: Lab) -> None:
    """The qdisc was netbpf's, and goes too."""
    put(lab, tc())
    lab.namespace.run(subprocess.run, ["tc", "filter", "del", "dev", "v0", "ingress"], check=True)
    (done,) = api.detach("v0", netns=lab.namespace)
    assert done.gone == "v0 had lost it already"
    lab.assert_nothing_left()


def test_a_qdisc_that_others_use_too(lab: Lab) -> None:
    """It stays as long as they do."""
    put(lab, tc())
    index = lab.status()[0].occupant.interface.index
    with foreign_program(ProgType.SCHED_CLS, 0) as fd, Session(lab.namespace) as session:
        place = TcFilter(1, 7, 3)
        netlink.add_filter(session, index, Hook.TC_EGRESS, place, fd.fileno())
    api.detach("v0", netns=lab.namespace)
    assert lab.qdiscs() == 1
    lab.namespace.run(subprocess.run, ["tc", "filter", "del", "dev", "v0", "egress"], check=True)
    api.detach("v0", netns=lab.namespace, missing_ok=True)
    lab.assert_nothing_left()


# --- renamed and moved ---


@each_way
def test_a_renamed_interface(lab: Lab, way: Way) -> None:
    put(lab, way)
    lab.ip("link set v0 name wan0")
    (one,) = lab.status()
    assert (one.occupant.interface.name, one.managed) == ("wan0", True)
    with pytest.raises(InterfaceNotFoundError, match="v0 is called wan0 now"):
        api.detach("v0", netns=lab.namespace)
    assert len(lab.status()) == 1
    (done,) = api.detach("wan0", netns=lab.namespace)
    assert (done.interface, done.gone) == ("wan0", None)
    lab.assert_nothing_left()


@pytest.fixture
def named(lab: Lab) -> Iterator[tuple[str, Namespace]]:
    """A namespace with a name of the test's own."""
    name = f"netbpf-test-{os.getpid()}"
    subprocess.run(["ip", "netns", "add", name], check=True)
    try:
        with Namespace.open(name) as namespace:
            yield name, namespace
    finally:
        if Path("/run/netns", name).exists():
            subprocess.run(["ip", "netns", "del", name], check=True)


MOVING = {"xdp": xdp(mode="native"), "xdp-link": xdp(link=True), "tcx": tc(link=True)}


@pytest.mark.parametrize("way", MOVING.values(), ids=MOVING)
def test_a_moved_interface(lab: Lab, named: tuple[str, Namespace], way: Way) -> None:
    """XDP and TCX programs go along; netbpf still knows them as its own."""
    name, there = named
    put(lab, way)
    lab.ip(f"link set v0 netns {name}")
    assert lab.status() == []
    (one,) = api.status(netns=there)
    assert one.managed
    assert one.object is not None
    assert one.object.path == way.first
    with pytest.raises(InterfaceNotFoundError, match=f"took its program .* along to {name}"):
        api.detach("v0", netns=lab.namespace)
    assert api.status(netns=there) == [one]
    # A new program on the old place, or --replace on the new one, is nobody's business but their own.
    with api.attach(way.hook, "v0", way.second, replace=True, netns=there, **way.options) as made:
        assert made.results[0].replaced == one.program.id
        assert [seen.managed for seen in api.status(netns=there)] == [True]
    assert api.status(netns=there) == []
    lab.assert_nothing_left()


@pytest.mark.parametrize("way", MOVING.values(), ids=MOVING)
def test_a_moved_interface_is_detached(lab: Lab, named: tuple[str, Namespace], way: Way) -> None:
    _, there = named
    put(lab, way)
    lab.ip(f"link set v0 netns {named[0]} name far0")
    (done,) = api.detach("far0", netns=there)
    assert done.gone is None
    assert api.status(netns=there) == []
    lab.assert_nothing_left()


def test_a_moved_interface_loses_clsact(lab: Lab, named: tuple[str, Namespace]) -> None:
    put(lab, tc())
    lab.ip(f"link set v0 netns {named[0]}")
    (done,) = api.detach("v0", netns=lab.namespace)
    assert done.gone == "interface v0 is gone"
    lab.assert_nothing_left()


def test_one_of_two_with_the_same_program_is_deleted(lab: Lab) -> None:
    """The program lives on, on the other: that is no reason to look for the first."""
    put(lab, xdp(mode="skb"), "v0,v2")
    lab.ip("link del v0")
    (done,) = api.detach("v0", netns=lab.namespace)
    assert done.gone == "interface v0 is gone"
    (one,) = lab.status()
    assert one.managed
    lab.assert_consistent()
    api.detach("v2", netns=lab.namespace)
    lab.assert_nothing_left()


def test_detach_of_a_replaced_program_leaves_its_successor(lab: Lab) -> None:
    """A handle on what has been replaced meanwhile takes off nothing, and forgets nothing."""
    with api.attach("xdp", "v0", "builtin:xdp_globals", mode="skb", netns=lab.namespace):
        api.attach("xdp", "v0", "builtin:xdp_count", replace=True, netns=lab.namespace).close()
    (one,) = lab.status()
    assert (one.program.name, one.managed) == ("xdp_count", True)
    lab.assert_consistent()
    api.detach("v0", netns=lab.namespace)
    lab.assert_nothing_left()


# --- namespaces ---


def furnish(name: str) -> None:
    subprocess.run(
        ["ip", "-n", name, "link", "add", "v0", "type", "veth", "peer", "name", "v1"], check=True
    )


@each_way
def test_a_deleted_namespace(lab: Lab, way: Way) -> None:
    name = f"netbpf-gone-{os.getpid()}"
    subprocess.run(["ip", "netns", "add", name], check=True)
    try:
        furnish(name)
        api.attach(way.hook, "v0", way.first, netns=name, **way.options).close()
        (there,) = api.status(netns=name)
    finally:
        subprocess.run(["ip", "netns", "del", name], check=True)
    # The kernel takes the namespace apart a moment later.
    eventually(
        lambda: not exists("PROG", there.program.id) or there.occupant.link_id, "not taken apart"
    )
    done = lab.cli("detach", netns=name)
    assert done.returncode == 0, done.stderr
    assert f"network namespace {name} is gone" in done.stdout
    eventually(lambda: not exists("PROG", there.program.id), "the program stays")
    again = lab.cli("detach", netns=name)
    assert again.returncode == 6
    api.detach(netns=lab.namespace, missing_ok=True)
    assert lab.files() == []


def test_a_namespace_that_lost_its_name_only(lab: Lab, named: tuple[str, Namespace]) -> None:
    """A process is still in it: what runs there is told, not forgotten."""
    name, there = named
    furnish(name)
    process = there.run(subprocess.Popen, ["cat"], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL)
    with process:
        api.attach("xdp", "v0", "builtin:xdp_globals", mode="skb", netns=name).close()
        subprocess.run(["ip", "netns", "del", name], check=True)
        with pytest.raises(
            NamespaceNotFoundError, match=f"still runs program .* in pid:{process.pid}"
        ):
            api.detach("v0", netns=name)
        (done,) = api.detach("v0", netns=f"pid:{process.pid}")
        assert done.gone is None
        process.terminate()
    lab.assert_nothing_left()


def test_attached_inside_of_a_named_namespace(lab: Lab, named: tuple[str, Namespace]) -> None:
    """Under ``ip netns exec`` the name is known too, by which detach is asked for later."""
    name, _ = named
    furnish(name)
    before = ("ip", "netns", "exec", name)
    done = lab.cli("attach", "xdp", "v0", "builtin:xdp_globals", before=before, netns="")
    assert done.returncode == 0, done.stderr
    named[1].close()
    subprocess.run(["ip", "netns", "del", name], check=True)
    done = lab.cli("detach", netns=f"/run/netns/{name}")
    assert done.returncode == 0, done.stderr
    assert f"network namespace {name} is gone" in done.stdout


def test_foreign_stays_foreign(lab: Lab) -> None:
    """Not even when a record of an earlier program of ours is there."""
    put(lab, xdp(mode="skb"))
    lab.ip("link set v0 xdpgeneric off")
    foreign = Path(__file__).parents[2] / "netbpf" / "_objects" / "xdp_count.bpf.o"
    lab.ip(f"link set v0 xdpgeneric obj {foreign} sec xdp")
    (one,) = lab.status()
    assert not one.managed
    with pytest.raises(NotManagedError):
        api.detach("v0", netns=lab.namespace)
    assert len(lab.status()) == 1
