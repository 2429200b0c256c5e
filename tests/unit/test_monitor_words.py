"""What ``netbpf monitor`` says: causes of every errno, and lines that no small test can provoke."""

import errno
import json
from itertools import product
from pathlib import Path

import pytest

from netbpf.bpf.btf.kernel import VMLINUX
from netbpf.bpf.btf.types import Btf
from netbpf.cli.render.monitor import _lost, _summary
from netbpf.cli.render.monitor_json import JsonLines
from netbpf.cli.render.monitor_words import program, what, where
from netbpf.constants import Hook, MapType
from netbpf.listen.monitor import error_name
from netbpf.listen.monitor_causes import Facts, words
from netbpf.listen.monitor_model import Count, Happening, Kind, Lost, Reading, Suspect
from netbpf.listen.monitor_reasons import Reasons, hook_of
from netbpf.listen.monitor_reasons import words as reason_words
from netbpf.model import Interface
from netbpf.net.netns import Namespace

HERE, THERE = 1, 2
ERRORS = [0, *sorted(errno.errorcode), 524]


@pytest.mark.parametrize("kind", [kind for kind in Kind if kind is not Kind.DROP])
def test_every_code_has_a_meaning(kind: Kind) -> None:
    codes = [0, 1, 2, 3, 4, -1] if kind is Kind.EXCEPTION else [-one for one in ERRORS]
    types = [0, MapType.DEVMAP, MapType.XSKMAP, MapType.CPUMAP]
    for code, map_type, driver in product(codes, types, ["veth", ""]):
        if kind is Kind.REDIRECT and not code:
            continue  # it is no error
        facts = Facts(kind, code, "eth0", "eth1", driver=driver, map_type=map_type)
        cause, advice = words(facts)
        assert cause
        assert not cause.endswith(".")
        assert "  " not in cause + advice


def test_names_of_errors() -> None:
    assert [error_name(one) for one in (0, 6, 95, 524, 9999)] == [
        "",
        "ENXIO",
        "EOPNOTSUPP",
        "ENOTSUPP",
        "9999",
    ]


def test_a_socket_that_is_too_slow() -> None:
    said = words(Facts(Kind.REDIRECT, -errno.ENOSPC, "eth0", map_type=MapType.XSKMAP))
    assert "AF_XDP" in said.cause
    assert "cpumap" in words(Facts(Kind.REDIRECT, -errno.ENOSPC, "eth0")).advice


def test_drop_reasons_are_the_kernels() -> None:
    if not VMLINUX.exists():
        pytest.skip("this kernel has no BTF")
    reasons = Reasons(Btf(Path(VMLINUX).read_bytes()))
    named = {reasons.name(number) for number in range(300)}
    assert {"NOT_SPECIFIED", "NO_SOCKET", "TC_INGRESS", "XDP"} <= named
    assert reasons.name(0x7FFF0005) == str(0x7FFF0005)
    assert reasons.name((1 << 16) + 3).endswith(" 3")


@pytest.mark.parametrize(
    ("reason", "function", "hook"),
    [
        ("XDP", "do_xdp_generic", Hook.XDP),
        ("NOT_SPECIFIED", "veth_xdp_rcv_skb", Hook.XDP),
        ("NOT_SPECIFIED", "ip_rcv", None),
        ("TC_INGRESS", "", Hook.TC_INGRESS),
        ("NO_SOCKET", "", None),
    ],
)
def test_whose_hook_a_drop_is(reason: str, function: str, hook: Hook | None) -> None:
    assert hook_of(reason, function) is hook
    said = reason_words(reason, function=function, interface="eth0", programs=1)
    assert said.cause
    assert "DEV" not in said.advice


def test_an_unknown_reason_is_said_in_its_own_words() -> None:
    said = reason_words("NEWLY_MADE", function="some_function", interface="eth0", programs=0)
    assert said.cause == "some_function dropped it: newly made"


# --- lines ----------------------------------------------------------------------------------------------------

ETH0 = Interface("eth0", 2, HERE)
OTHER = Interface("e\x1b[2J", 2, THERE)
SUSPECT = Suspect(7, "p\n", ("one", "two"))


def test_interfaces_of_other_namespaces_are_told_apart() -> None:
    assert where(Happening(Kind.EXCEPTION, ETH0), HERE) == "eth0"
    assert where(Happening(Kind.EXCEPTION, ETH0, "blue"), THERE) == "eth0 (netns blue)"
    assert where(Happening(Kind.EXCEPTION, ETH0), THERE) == "eth0 (netns 1)"
    assert where(Happening(Kind.CPUMAP_ENQUEUE, map_id=5), HERE) == "cpumap 5"


def test_names_from_outside_are_escaped() -> None:
    found = Happening(
        Kind.DEVMAP_XMIT, ETH0, program=SUSPECT, target=OTHER, target_netns="n\t", errno=errno.ENXIO
    )
    assert what(found, HERE) == "sending to e\\x1b[2J (netns n\\t): ENXIO"
    assert program(found) == "one or two of p\\n (program 7)"


@pytest.mark.parametrize(
    ("found", "said"),
    [
        (Happening(Kind.EXCEPTION, verdict="XDP_TX"), "XDP_TX"),
        (Happening(Kind.EXCEPTION, verdict="9"), "verdict 9"),
        (Happening(Kind.EXCEPTION, verdict="9", alike=False), "verdict unknown"),
        (
            Happening(Kind.REDIRECT, errno=22, map_id=3, map_name="m"),
            "redirect through map m: EINVAL",
        ),
        (Happening(Kind.BULK_TX), "XDP_TX: not all sent"),
        (Happening(Kind.CPUMAP_KTHREAD, cpu=1), "no memory on CPU 1"),
        (Happening(Kind.DROP, reason="NOMEM"), "drop: NOMEM"),
    ],
)
def test_what_happened_in_a_few_words(found: Happening, said: str) -> None:
    assert what(found, HERE) == said


LOST = Lost((("kfree_skb", 12),), (("xdp_exception", 3),))


def test_what_was_lost_is_said() -> None:
    shown = [line.text for line in _lost(LOST)]
    assert LOST.total == 15
    assert shown[0].startswith("12 events of kfree_skb are not told apart")
    assert shown[1].startswith("3 events of xdp_exception, of any interface, were not seen")
    # What was not seen may have gone wrong.
    summary = [line.text for line in _summary(Reading(0, 1, (), LOST), 1.0, HERE)]
    assert summary == ["nothing was counted in 1.0 s", *shown]
    fine = [line.text for line in _summary(Reading(0, 1, (), Lost()), 1.0, HERE)]
    assert fine == ["nothing went wrong in 1.0 s"]


def test_what_was_lost_in_json(capsys: pytest.CaptureFixture[str]) -> None:
    with Namespace.current() as here:
        count = Count(Happening(Kind.DROP, ETH0, reason="NOMEM", example=0x86DD), 4, 4, 4, 4)
        JsonLines(here).end(Reading(5.0, 1.0, (count,), LOST), 1.0)
    event, summary = (json.loads(line) for line in capsys.readouterr().out.splitlines())
    assert (event["reason"], event["protocol"], event["index"]) == ("NOMEM", 0x86DD, None)
    assert summary["lost"] == {"crowded": {"kfree_skb": 12}, "nested": {"xdp_exception": 3}}
