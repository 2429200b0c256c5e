"""``prog``, ``map``, ``link`` and ``btf`` while the kernel changes, and for who may not look."""

import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from netbpf import api
from netbpf._sys import bpf as sys_bpf
from netbpf.bpf.loader import Loaded, load
from netbpf.bpf.map import Map
from netbpf.bpf.object import ObjectSpec
from netbpf.bpf.program import Program
from netbpf.constants import Hook
from netbpf.errors import KernelError, NotAttachedError
from netbpf.insight import kernel, types
from netbpf.insight.choose import Wanted
from tests.cli.lab import ROOT, Lab, run_cli
from tests.inspect.test_kernel_objects import SOURCE, bpftool
from tests.support.compiling import compile_c
from tests.support.descriptors import nothing_left_open


@pytest.fixture
def loaded(private: Path) -> Iterator[Loaded]:
    spec = ObjectSpec(compile_c(SOURCE, name="shown"))
    with load(spec, spec.programs[0], Hook.XDP) as made:
        yield made


# --- what vanishes ---


def test_maps_that_vanish_are_left_out(loaded: Loaded, monkeypatch: pytest.MonkeyPatch) -> None:
    gone = loaded.maps["netbpf_table"].info.id
    real = Map.by_id

    def by_id(which: int) -> Map:
        if which == gone:
            raise NotAttachedError("gone")
        return real(which)

    monkeypatch.setattr(Map, "by_id", by_id)
    with nothing_left_open():
        found = [one.info.id for one in api.maps()]
    assert gone not in found
    assert loaded.maps[".data"].info.id in found


@pytest.mark.parametrize("number", [2, 11])  # ENOENT, EAGAIN
def test_links_that_vanish_are_left_out(
    lab: Lab, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    lab.attach("xdp", "dut0", lab.compiled(SOURCE, "shown"), "--link")
    link = lab.hooks()[0]["link_id"]
    real = sys_bpf.fd_by_id

    def fd_by_id(kind: str, which: int) -> Any:
        if (kind, which) == ("LINK", link):
            raise KernelError("BPF_LINK_GET_FD_BY_ID", number)
        return real(kind, which)

    with monkeypatch.context() as patched:
        patched.setattr(sys_bpf, "fd_by_id", fd_by_id)
        found = [one.info.id for one in api.links()]
        told = run_cli("link", "list", link)
    assert link not in found
    assert f"link {link} does not exist" in told.error


def test_btf_that_vanishes_is_left_out(loaded: Loaded, monkeypatch: pytest.MonkeyPatch) -> None:
    gone = loaded.program.info.btf_id
    real = types.open_btf

    def open_btf(which: int) -> Any:
        if which == gone:
            raise NotAttachedError("gone")
        return real(which)

    monkeypatch.setattr("netbpf.insight.btf_list.open_btf", open_btf)
    assert gone not in [one.id for one in api.btfs()]
    with pytest.raises(NotAttachedError):
        api.btfs(gone)


# --- ids that were used before ---


def test_a_hook_of_the_program_that_had_the_id_before_is_not_shown(lab: Lab) -> None:
    lab.attach("xdp", "dut0", lab.compiled(SOURCE, "shown"))
    [hook] = api.status(netns=lab.netns)
    wanted = Wanted(id=hook.program.id)
    [now] = kernel.programs(wanted, lambda: [hook])
    assert now.hooks == (hook,)
    before = replace(
        hook, program=replace(hook.program, loaded_at_ns=hook.program.loaded_at_ns - 1)
    )
    [now] = kernel.programs(wanted, lambda: [before])
    assert now.hooks == ()


def test_an_id_cannot_be_used_again_while_it_is_shown(
    loaded: Loaded, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Everything about a program or map is asked while a descriptor of it is open."""
    opened: list[Any] = []
    for kind in (Program, Map):
        real = kind.by_id

        def by_id(which: int, real: Any = real) -> Any:
            opened.append(real(which))
            return opened[-1]

        monkeypatch.setattr(kind, "by_id", by_id)

    def hooks() -> list[Any]:
        assert not opened[0].fd.closed
        return []

    kernel.programs(Wanted(id=loaded.program.info.id), hooks)
    assert opened[0].fd.closed
    opened.clear()
    kernel.maps(Wanted(id=loaded.maps["netbpf_table"].info.id), hooks)
    opened.clear()
    monkeypatch.setattr("netbpf.insight.types.open_btf", lambda _: hooks() or pytest.fail("open"))
    with pytest.raises(pytest.fail.Exception):
        api.types(("prog", str(loaded.program.info.id)))


# --- whose interface it is ---


def test_a_link_has_no_name_from_another_namespace(lab: Lab) -> None:
    lab.attach("xdp", "dut0", lab.compiled(SOURCE, "shown"), "--link")
    [hook] = lab.hooks()
    stranger = lab.topology.namespace()
    words = (
        "ip",
        "link",
        "add",
        "wrong",
        "index",
        hook["ifindex"],
        "type",
        "veth",
        "peer",
        "name",
        "other",
        "index",
        99,
    )
    stranger.run(subprocess.run, [*map(str, words)], check=True)
    found = stranger.run(run_cli, "link", "list", hook["link_id"], "--json").json["links"]
    assert (found[0]["ifindex"], found[0]["devname"], found[0]["netns"]) == (hook["ifindex"], None, None)  # fmt: skip
    text = stranger.run(run_cli, "link", "list", hook["link_id"]).out
    assert f"interface {hook['ifindex']} of another namespace" in text
    own = lab.wire.dut.run(run_cli, "link", "list", hook["link_id"], "--json").json["links"]
    assert (own[0]["devname"], own[0]["netns"]) == ("dut0", None)
    theirs = json.loads(lab.run("bpftool", "-j", "link", "show", "id", hook["link_id"]))
    assert {name: own[0][name] for name in theirs if name != "pids"} == {
        name: value for name, value in theirs.items() if name != "pids"
    }


def test_who_holds_btf(loaded: Loaded) -> None:
    number = loaded.program.info.btf_id
    with sys_bpf.fd_by_id("BTF", number) as fd:
        inherited = fd.fileno()
        with subprocess.Popen(["cat"], stdin=subprocess.PIPE, pass_fds=[inherited]) as cat:
            [one] = run_cli("btf", "list", number, "--json").json["btfs"]
            text = run_cli("btf", "list", number).out
            assert set(bpftool("btf", "list", "id", number)) <= set(one)
            assert cat.stdin
            cat.stdin.close()
    assert {"pid": cat.pid, "comm": "cat"} in one["pids"]
    assert f"cat({cat.pid})" in text


# --- pictures ---


def test_a_drawn_graph_shows_all_of_it(loaded: Loaded) -> None:
    number = loaded.program.info.id
    drawn = ElementTree.fromstring(run_cli("prog", "dump", number, "--cfg", "svg").out)
    words = "\n".join(
        "".join(one.itertext()) for one in drawn.iter("{http://www.w3.org/2000/svg}text")
    )
    listed = [one for each in api.program_code(number) for one in each.lines]
    for one in listed:
        assert f"{one.index}: {one.text}".replace(" ", "") in words.replace("\xa0", "").replace(
            " ", ""
        )
    assert "; netbpf_table" in words.replace("\xa0", " ")
    assert next(drawn.iter("{http://www.w3.org/2000/svg}title")).text == "netbpf_shown"


# --- who may not look ---


@pytest.mark.parametrize(
    ("words", "drop", "missing"),
    [
        (("prog", "list"), "-sys_admin", "CAP_SYS_ADMIN"),
        (("map", "list"), "-sys_admin", "CAP_SYS_ADMIN"),
        (("link", "list"), "-sys_admin", "CAP_SYS_ADMIN"),
        (("btf", "list"), "-sys_admin", "CAP_SYS_ADMIN"),
        (("load", "builtin:xdp_count"), "-sys_admin,-bpf", "CAP_BPF"),
    ],
)
def test_a_missing_capability_is_named(words: tuple[str, ...], drop: str, missing: str) -> None:
    command = [
        "setpriv", f"--bounding-set={drop}", f"--inh-caps={drop}", "--", sys.executable, "-m", "netbpf", *words,
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 10
    assert missing in done.stderr
    assert "Errno" not in done.stderr
