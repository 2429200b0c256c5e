"""netbpf features: what the kernel says, against what bpftool and the kernel's own tables say."""

import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from netbpf._sys.probing import ProgramProbe
from netbpf.bpf import probes
from netbpf.constants import AttachType, MapType, ProgType
from netbpf.errors import PermissionDeniedError, UsageError
from netbpf.host import kernel_names
from netbpf.host.features import LOUD, Features
from netbpf.host.having import Has, has
from tests.cli.lab import run_cli
from tests.host.room import Room

pytestmark = pytest.mark.root


@pytest.fixture(scope="module")
def here() -> Iterator[Features]:
    with Features() as found:
        yield found


@pytest.fixture(scope="module")
def printed() -> dict[str, Any]:
    done = run_cli("features", "--json")
    assert done.code == 0
    return done.json


@pytest.fixture(scope="module")
def bpftool() -> dict[str, Any]:
    done = subprocess.run(
        ["bpftool", "feature", "probe", "-j"], capture_output=True, text=True, check=True
    )
    found = json.loads(done.stdout)
    assert isinstance(found, dict)
    return found


# --- beside bpftool ---


def test_map_types_are_those_of_bpftool(printed: dict[str, Any], bpftool: dict[str, Any]) -> None:
    ours = printed["map_types"]
    assert bpftool["map_types"].items() <= ours.items()
    # bpftool 7.1 has never heard of the newer ones.
    assert {"have_cgrp_storage_map_type", "have_arena_map_type"} >= ours.keys() - bpftool[
        "map_types"
    ].keys()


def test_program_types_are_those_of_bpftool(
    printed: dict[str, Any], bpftool: dict[str, Any]
) -> None:
    """Types that are bound to a function of the kernel load only with it, which bpftool does not name."""
    ours, theirs = printed["program_types"], bpftool["program_types"]
    assert theirs.keys() <= ours.keys()
    bound = {f"have_{name}_prog_type" for name in ("tracing", "ext", "lsm")}
    different = {name for name in theirs if ours[name] is not theirs[name]}
    assert different <= bound
    for name in different:
        assert theirs[name] is False
        # Either it loads with a function, or the kernel does not say that it is not there.
        assert ours[name] is not False


def test_instructions_are_those_of_bpftool(
    printed: dict[str, Any], bpftool: dict[str, Any]
) -> None:
    assert bpftool["misc"].items() <= printed["misc"].items()


def test_helpers_are_those_of_bpftool(
    printed: dict[str, Any], bpftool: dict[str, Any], here: Features
) -> None:
    """bpftool 7.1 does not understand how Linux 6.8 and later refuse a helper, and counts the refused as available.

    So each that only bpftool has must be one that the verifier refuses in those words.
    """
    for key, theirs in bpftool["helpers"].items():
        kind = key.removesuffix("_available_helpers")
        ours = printed["helpers"][key]
        if kind in ("tracing", "struct_ops"):
            assert not theirs  # it cannot load them, see above
            continue
        assert len(ours) == len(set(ours))
        # Those that write to the kernel's log, which bpftool leaves out unless told otherwise.
        logging = {"bpf_trace_printk", "bpf_trace_vprintk", "bpf_probe_write_user"}
        newer = {"bpf_cgrp_storage_get", "bpf_cgrp_storage_delete"}  # than bpftool 7.1
        assert set(ours) - set(theirs) <= logging | newer
        for name in set(theirs) - set(ours):
            told = here.helper(name, kind)
            assert told.here is False
            assert told.why in (f"{kind} programs may not call it", "this kernel does not have it")


def test_the_words_of_the_verifier_for_what_only_bpftool_has() -> None:
    number = {name: at for at, name in kernel_names.helpers().items()}["bpf_skb_load_bytes"]
    code = bytes((0x85, 0, 0, 0)) + number.to_bytes(4, "little") + probes.EXIT
    answer = ProgramProbe().ask(ProgType.XDP, code, AttachType.XDP)
    assert not answer.loaded
    assert re.search(
        rb"program of this type cannot use helper bpf_skb_load_bytes|unknown func", answer.log
    )


# --- beside the kernel's own tables ---


def test_helpers_that_every_xdp_program_may_call(here: Features) -> None:
    found = here.helpers("xdp")
    for name in (
        "bpf_map_lookup_elem",
        "bpf_redirect_map",
        "bpf_xdp_adjust_head",
        "bpf_fib_lookup",
        "bpf_csum_diff",
    ):
        assert found[name].here is True
    for name in ("bpf_skb_load_bytes", "bpf_clone_redirect", "bpf_bind", "bpf_sock_map_update"):
        assert found[name].here is False
    assert here.helpers("tc")["bpf_skb_load_bytes"].here is True
    assert found is here.helpers("BPF_PROG_TYPE_XDP")  # asked once
    assert here.helpers("sched_cls") is here.helpers("tc")


def test_helpers_that_sleep_are_told_apart(here: Features) -> None:
    assert here.helpers("kprobe")["bpf_copy_from_user"].why == "only in sleepable programs"
    assert here.helpers("syscall")["bpf_copy_from_user"].why == ""


def test_a_helper_that_makes_the_kernel_warn_is_asked_for_by_name_only(here: Features) -> None:
    assert all(here.helpers(kind)[name].here is None for kind in ("kprobe", "xdp") for name in LOUD)
    assert here.helper("bpf_probe_write_user", "xdp").here is False


def test_kernel_functions(here: Features) -> None:
    found = here.kfuncs
    assert found["bpf_xdp_ct_lookup"].types["xdp"].here is True
    assert found["bpf_dynptr_from_xdp"].types["xdp"].here is True
    assert found["bpf_dynptr_from_xdp"].types["sched_cls"].here is False
    assert found["bpf_skb_ct_lookup"].types["sched_cls"].here is True
    assert found["bpf_skb_ct_lookup"].types["kprobe"].here is False
    assert all(one.module == "" for one in found.values())


def test_kernel_functions_are_what_bpftools_dump_of_types_tags(here: Features) -> None:
    done = subprocess.run(
        ["bpftool", "-j", "btf", "dump", "file", "/sys/kernel/btf/vmlinux"],
        capture_output=True,
        check=True,
    )
    types = {one["id"]: one for one in json.loads(done.stdout)["types"]}
    tagged = {
        types[one["type_id"]]["name"]
        for one in types.values()
        if one["kind"] == "DECL_TAG" and one["name"] == "bpf_kfunc"
    }
    assert set(here.kfuncs) == tagged


def test_without_tags_functions_are_asked_for_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on kernels before 6.10: what the verifier allows nowhere is no kernel function."""
    from netbpf.host import kfuncs

    monkeypatch.setattr(kfuncs, "TAG", "no such tag")
    functions, told = kfuncs.Kfuncs().all()
    assert not told
    names = {one.name for one in functions}
    assert {"bpf_xdp_ct_lookup", "bpf_prog_load"} <= names
    chosen = [one for one in functions if one.name in ("bpf_xdp_ct_lookup", "bpf_prog_load")]
    monkeypatch.setattr(kfuncs.Kfuncs, "all", lambda _: (chosen, False))
    with Features() as found:
        assert list(found.kfuncs) == ["bpf_xdp_ct_lookup"]


def test_ways_to_attach(here: Features) -> None:
    found = here.attach_kinds
    for name in (
        "xdp_skb",
        "xdp_link",
        "tc_clsact",
        "tcx_ingress",
        "cgroup_inet_egress",
        "sk_lookup",
        "raw_tracepoint",
    ):
        assert found[name].here is True, found[name]
    # Each of the kernel's numbers that netbpf knows, and names that it does not.
    assert {
        "cgroup_unix_connect",
        "netkit_primary",
        "lirc_mode2",
        "fentry",
        "kprobe",
        "uprobe_multi",
    } <= set(found)


def test_an_attach_type_that_no_kernel_has() -> None:
    from netbpf.host.attaching import _queried

    assert _queried(4000).here is False


def test_a_map_type_and_a_program_type_that_no_kernel_has() -> None:
    assert probes.map_type(4000).here is False
    assert probes.program_type(ProgramProbe(), 4000, 0).here is False
    assert probes.helper(ProgramProbe(), 4000, ProgType.XDP, AttachType.XDP) == (
        False,
        "this kernel does not have it",
    )


def test_names_come_from_the_kernel_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """A map type that is newer than netbpf is asked for by the kernel's own name."""
    monkeypatch.setattr(
        kernel_names, "_kernel_enum",
        lambda _: (("BPF_MAP_TYPE_HASH", 1), ("BPF_MAP_TYPE_NOVEL", 77), ("BPF_MAP_TYPE_UNSPEC", 0), ("__MAX", 78)),
    )  # fmt: skip
    names = kernel_names.map_types()
    assert names[77] == "novel"
    assert names[MapType.ARENA] == "arena"
    assert 0 not in names


def test_without_the_kernels_types(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from netbpf.bpf.btf import kernel

    monkeypatch.setattr(kernel, "VMLINUX", tmp_path / "vmlinux")
    kernel.kernel_btf.cache_clear()
    kernel_names._kernel_enum.cache_clear()
    try:
        with Features() as found:
            assert found.helpers("xdp")["bpf_redirect"].here is True
            [answer] = has(found, "bpf_xdp_ct_lookup", "xdp")
            assert (answer.here, "vmlinux is missing" in answer.why) == (None, True)
    finally:
        kernel.kernel_btf.cache_clear()
        kernel_names._kernel_enum.cache_clear()


# --- questions ---


@pytest.mark.parametrize(
    ("name", "kind", "there"),
    [
        ("bpf_xdp_load_bytes", "helper", True), ("xdp_load_bytes", "helper", True),
        ("BPF_FUNC_xdp_load_bytes", "helper", True), ("ringbuf", "map type", True),
        ("BPF_MAP_TYPE_RINGBUF", "map type", True), ("have_xdp_prog_type", "program type", True),
        ("lirc_mode2", "program type", False), ("xdp_frags", "feature", True), ("tcx_link", "attach kind", True),
        ("bpf_xdp_ct_lookup", "kernel function", True), ("map:stack", "map type", True),
        ("bpf_teleport", "", False),
    ],
)  # fmt: skip
def test_has(here: Features, name: str, kind: str, there: bool) -> None:
    found = has(here, name)
    assert (found[0].kind, found[0].here) == (kind, there)


def test_has_for_one_program_type(here: Features) -> None:
    assert has(here, "bpf_skb_load_bytes", "xdp") == [
        Has("bpf_skb_load_bytes", "helper", False, "xdp programs may not call it")
    ]
    assert has(here, "bpf_dynptr_from_skb", "tc")[0].types == ("sched_cls",)
    with pytest.raises(UsageError, match="no program type xpd") as error:
        has(here, "bpf_redirect", "xpd")
    assert error.value.hint == "did you mean xdp?"


def test_what_is_not_there_has_near_names(here: Features) -> None:
    assert "bpf_redirect_peer" in has(here, "bpf_redirect_pear")[0].why


def test_exit_codes() -> None:
    assert run_cli("features", "--has", "ringbuf").code == 0
    done = run_cli("features", "--has", "ringbuf", "--has", "bpf_teleport", "--json")
    assert (done.code, [one["here"] for one in done.json["has"]]) == (5, [True, False])
    assert run_cli("features", "--helpers", "xdp", "--has", "bpf_skb_load_bytes").code == 5
    assert run_cli("features", "--helpers", "nonsense").code == 2
    assert run_cli("features", "--maps", "--has", "hash").code == 2


def test_only_what_is_asked_for_is_asked() -> None:
    done = run_cli("features", "--maps", "--json")
    assert set(done.json) == {"schema", "kernel", "map_types", "notes", "asked"}
    assert done.json["asked"] < 100


def test_everything_within_a_second(printed: dict[str, Any]) -> None:
    """In questions, which no load on the machine changes: 12,000 of 15 microseconds each."""
    assert 5000 < printed["asked"] < 20_000


# --- without permission ---


def test_without_capabilities_the_missing_ones_are_named(room: Room) -> None:
    code, _, err = room.ended("setpriv --bounding-set=-all --inh-caps=-all --reuid=65534 --clear-groups "
                              "python -m netbpf features")  # fmt: skip
    assert code == 10
    assert "CAP_BPF and CAP_PERFMON and CAP_NET_ADMIN are missing" in err


def test_without_net_admin_the_rest_is_told(room: Room) -> None:
    """CAP_SYS_ADMIN would stand in for it."""
    code, out, _ = room.ended("setpriv --bounding-set=-net_admin,-sys_admin --inh-caps=-net_admin,-sys_admin "
                              "python -m netbpf features --programs --json")  # fmt: skip
    found = json.loads(out)
    assert code == 0
    assert found["program_types"]["have_socket_filter_prog_type"] is True
    assert found["program_types"]["have_xdp_prog_type"] is None
    assert {"name": "xdp", "why": "not told: CAP_NET_ADMIN is missing"} in found["notes"]


def test_the_library(monkeypatch: pytest.MonkeyPatch) -> None:
    import netbpf

    with netbpf.features() as found:
        assert found.map_types["hash"].here
    assert netbpf.has(["hash", "array"])[1].name == "array"
    monkeypatch.setattr(ProgramProbe, "_load", lambda *_: (None, 1, b""))
    with pytest.raises(PermissionDeniedError):
        netbpf.features()
