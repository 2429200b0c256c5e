"""The numbers that C writes and Python names: netbpf/include/netbpf/stats.h against netbpf/live/tables.py."""

from pathlib import Path
from typing import Final

import pytest

from netbpf.bpf.btf.types import Kind
from netbpf.bpf.object import ObjectSpec
from netbpf.constants import TcAction, XdpAction
from netbpf.live.tables import PROTOCOLS, PROTOCOLS_MAP, VERDICTS_MAP
from tests.programs.building import CLANG_14_AND_NEWEST, build
from tests.support.compiling import CLANGS


def constants(spec: ObjectSpec, prefix: str) -> dict[str, int]:
    """The enumerators of an object's BTF whose names begin so."""
    assert spec.btf is not None
    enums = [one for one in spec.btf.types() if one.kind in (Kind.ENUM, Kind.ENUM64)]
    return {
        name: value
        for one in enums
        for name, value in spec.btf.enumerators(one)
        if name.startswith(prefix)
    }


NAMES: Final = """
#include <linux/bpf.h>
#include <netbpf/protocols.h>
enum netbpf_proto a = NETBPF_PROTO_MAX;
enum xdp_action b = XDP_PASS;
enum tc_action c = TC_ACT_OK;
enum { VERDICTS = NETBPF_VERDICT_MAX } d = VERDICTS;
SEC("xdp") int f(struct xdp_md *ctx)
{
	netbpf_count_proto(ctx);
	return netbpf_count(ctx, b) + a + c + d;
}
char _license[] SEC("license") = "GPL";
"""


@pytest.fixture(scope="module", params=CLANG_14_AND_NEWEST)
def names(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> ObjectSpec:
    """An object whose types include all of stats.h."""
    source = tmp_path_factory.mktemp("names") / "names.bpf.c"
    source.write_text(NAMES)
    build(source, request.param, source.with_suffix(".o"))
    return ObjectSpec.open(source.with_suffix(".o"))


def test_python_calls_the_protocols_what_c_does(names: ObjectSpec) -> None:
    words = {
        "eth_other": "other", "vlan": "vlan", "arp": "arp", "ipv4": "ipv4", "ipv6": "ipv6",
        **{f"ipv4_{what}": f"ipv4/{what}" for what in ("tcp", "udp", "icmp", "other")},
        **{f"ipv6_{what}": f"ipv6/{what}" for what in ("tcp", "udp", "icmpv6", "other")},
    }  # fmt: skip
    found = constants(names, "NETBPF_PROTO_")
    assert found.pop("NETBPF_PROTO_MAX") == len(PROTOCOLS)
    in_c = {
        value: words[name.removeprefix("NETBPF_PROTO_").lower()] for name, value in found.items()
    }
    assert in_c == dict(enumerate(PROTOCOLS))


def test_python_calls_the_verdicts_what_c_does(names: ObjectSpec) -> None:
    xdp = {name.removeprefix("XDP_"): value for name, value in constants(names, "XDP_").items()}
    assert xdp == {one.name: int(one) for one in XdpAction}
    tc = {
        name.removeprefix("TC_ACT_"): value for name, value in constants(names, "TC_ACT_").items()
    }
    # Before clang 15 BTF does not say that an enum is signed.
    tc["UNSPEC"] = -1 if tc["UNSPEC"] == 0xFFFFFFFF else tc["UNSPEC"]
    assert tc == {one.name: int(one) for one in TcAction}
    [entries] = constants(names, "VERDICTS").values()
    assert entries == names.maps[VERDICTS_MAP].max_entries == max(TcAction) + 2
    assert names.maps[PROTOCOLS_MAP].max_entries == len(PROTOCOLS)


def test_tc_actions_are_those_of_the_kernels_header(tmp_path: Path) -> None:
    """tc_action.h replaces macros by an enum: the numbers have to stay."""
    checks = "".join(f'_Static_assert(TC_ACT_{one.name} == {int(one)}, "");\n' for one in TcAction)
    for include in ("linux/pkt_cls.h", "netbpf/tc_action.h"):
        source = tmp_path / "check.bpf.c"
        source.write_text(f"#include <{include}>\n{checks}")
        build(source, CLANGS[0], tmp_path / "check.o")
