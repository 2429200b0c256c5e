"""A thousand rounds of attach and detach in one process: nothing adds up."""

import pytest

from netbpf import NetbpfError, api
from netns_fixtures.residue import Snapshot
from tests.faults.lab import Lab

ROUNDS = 1000
# Native mode makes the driver allocate rings (11 ms on a veth): one round in twenty.
WAYS = [
    ("xdp", "builtin:xdp_globals", {"mode": "skb"}),
    ("tc/ingress", "builtin:tc_globals", {}),
    ("tc/egress", "builtin:tc_globals", {"link": True}),
    ("xdp", "builtin:xdp_globals", {"mode": "skb", "link": True}),
    ("tc/egress", "builtin:tc_globals", {}),
]
NATIVE = ("xdp", "builtin:xdp_globals", {"mode": "native"})


@pytest.mark.serial
def test_a_thousand_rounds(lab: Lab) -> None:
    """Descriptors, threads, programs, maps, links and namespaces are the same as before."""

    def one_round(number: int) -> None:
        hook, source, options = NATIVE if number % 20 == 0 else WAYS[number % len(WAYS)]
        with api.attach(hook, "v0", source, netns=lab.namespace, **options) as attached:  # type: ignore[arg-type]
            if number % 50 == 0:
                other = {k: v for k, v in options.items() if k == "link"}  # type: ignore[attr-defined]
                api.attach(hook, "v0", source, replace=True, netns=lab.namespace, **other).close()  # type: ignore[arg-type]
                attached.results = []
                api.detach("v0", netns=lab.namespace)

    for number in range(20):  # what is loaded or mounted once
        one_round(number)
    before = Snapshot.take()
    for number in range(ROUNDS):
        one_round(number)
    assert before.leaks() == []
    lab.assert_nothing_left()


@pytest.mark.serial
def test_rounds_that_fail(lab: Lab) -> None:
    """Errors leave as little as successes."""
    api.attach("xdp", "v0", "builtin:xdp_globals", mode="skb", netns=lab.namespace).close()

    def one_round() -> None:
        for arguments, options in (
            (("xdp", "v0", "builtin:xdp_globals"), {}),
            (("xdp", "v2", "builtin:xdp_globals"), {"mode": "hw"}),
            (("xdp", "v9", "builtin:xdp_globals"), {}),
            (("xdp", "v2", "builtin:nothing"), {}),
            (("xdp", "v2", "builtin:xdp_globals"), {"settings": ["nothing=1"]}),
            (("xdp", "v2,v0", "builtin:xdp_globals"), {"atomic": True, "mode": "skb"}),
            (("tc", "v0", "builtin:tc_globals"), {"netns": "no-such-namespace"}),
        ):
            with pytest.raises(NetbpfError):
                api.attach(*arguments, **{"netns": lab.namespace, **options})  # type: ignore[arg-type]

    one_round()
    before = Snapshot.take()
    for _ in range(20):
        one_round()
    assert before.leaks() == []
    lab.assert_consistent()
    api.detach("v0", netns=lab.namespace)
    lab.assert_nothing_left()
