"""What is left of the dialects: objects without types, custom data sections, maps that another object defines."""

from pathlib import Path

import pytest

from netbpf.bpf.loader import load
from netbpf.bpf.object import ObjectSpec
from netbpf.constants import Hook
from netbpf.errors import ObjectError
from tests.cli.lab import Lab, udp
from tests.support.compiling import CLANGS, compile_c, compile_object

HEAD = "#include <linux/bpf.h>\n#include <bpf/bpf_helpers.h>\n"


@pytest.mark.parametrize("clang", sorted({CLANGS[0], CLANGS[-1]}))
def test_old_maps_and_odd_sections_need_no_types(clang: str) -> None:
    spec = ObjectSpec(compile_object("dialects", clang=clang, debug=False), "dialects.o")
    assert spec.btf is None
    for name, hook in (("firewall", Hook.XDP), ("caller", Hook.XDP), ("ingress", Hook.TC_INGRESS)):
        with load(spec, spec.select(hook, name), hook) as loaded:
            assert not loaded.program.info.btf_id
            assert name != "firewall" or {"legacy", "legacy_static"} <= set(loaded.maps)


def test_variables_in_sections_of_their_own(lab: Lab) -> None:
    path = lab.compiled(HEAD + """
int counted SEC(".data.mine") = 5;
int zeroed SEC(".bss.mine");
const volatile int limit SEC(".rodata.mine") = 1;
SEC("xdp") int f(struct xdp_md *ctx) { counted += limit; zeroed++; return XDP_PASS; }
""")  # fmt: skip
    lab.attach(
        "xdp", "dut0", path, "--set", "limit=10", "--set", "counted=100", "--set", "zeroed=7"
    )
    udp(lab.wire.peer, number=3)
    assert [lab.get("dut0", one) for one in ("counted", "zeroed", "limit")] == [130, 10, 10]
    lab("set", "dut0", "counted=1")
    udp(lab.wire.peer)
    assert lab.get("dut0", "counted") == 11
    assert "frozen" in lab("set", "dut0", "limit=3", code=5).error


def test_maps_that_another_object_defines(tmp_path: Path) -> None:
    """Only what uses them cannot be loaded, until the objects are linked together."""
    source = (
        HEAD
        + """
struct map { __uint(type, BPF_MAP_TYPE_ARRAY); __uint(max_entries, 1); __type(key, int); __type(value, int); };
extern struct map theirs SEC(".maps");
struct map own SEC(".maps");
SEC("xdp") int fine(struct xdp_md *ctx) { int k = 0; return bpf_map_lookup_elem(&own, &k) ? 2 : 1; }
SEC("xdp") int lacks(struct xdp_md *ctx) { int k = 0; return bpf_map_lookup_elem(&theirs, &k) ? 2 : 1; }
"""
    )
    spec = ObjectSpec(compile_c(source), "half.o")
    load(spec, spec.select(Hook.XDP, "fine"), Hook.XDP).close()
    with pytest.raises(
        ObjectError, match="program lacks uses theirs, which the object does not define"
    ) as caught:
        load(spec, spec.select(Hook.XDP, "lacks"), Hook.XDP)
    assert "link its objects together" in (caught.value.hint or "")


@pytest.mark.parametrize(
    "section",
    [
        "tcx/ingress",
        "tcx/egress",
        "tc/ingress",
        "classifier",
        "cls_main",
        "act",
        "netkit/primary",
        "ingress",
        "from-netdev",
    ],
)
def test_sections_of_tc_programs(lab: Lab, section: str) -> None:
    path = lab.compiled(HEAD + f'SEC("{section}") int f(struct __sk_buff *skb) {{ return -1; }}\n')
    for options in ([], ["--egress"], ["--link"]):
        lab.attach("tc", "dut0", path, *options)
        assert [one[2] for one in lab.programs()] == ["f"]
        lab("detach", "tc", "dut0")
