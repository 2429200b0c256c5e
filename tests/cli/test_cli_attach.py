"""``netbpf attach``: every kind of object, every way of choosing a program, every mode, seen by packets."""

import shutil
from pathlib import Path

import pytest

from tests.cli.lab import OBJECTS, Lab, udp

# --- what OBJECT can be ---


def test_a_shipped_program(lab: Lab) -> None:
    done = lab("attach", "xdp", "dut0", "builtin:xdp_count")
    [hook] = lab.hooks("dut0")
    number = hook["program"]["id"]
    assert done.lines == [f"dut0 xdp: xdp_count attached (native, program {number})"]
    assert hook["object"]["path"] == "builtin:xdp_count"
    udp(lab.wire.peer, number=3)
    assert lab("stats", "dut0", "--json").json["hooks"][0]["verdicts"]["pass"]["packets"] == 3


def test_an_object_file_of_another_compiler(lab: Lab) -> None:
    path = lab.object("filter")
    lab("attach", "xdp", "dut0", path)
    with lab.wire.dut.capture() as arrived:
        udp(lab.wire.peer, number=4)
        arrived.expect_none()
    assert lab.get("dut0", "dropped") == 4
    [hook] = lab.hooks()
    assert hook["object"]["path"] == str(path)


def test_a_c_source_is_compiled_once(lab: Lab, tmp_path: Path, private: Path) -> None:
    shutil.copy(OBJECTS / "net.h", tmp_path)
    source = Path(shutil.copy(OBJECTS / "filter.bpf.c", tmp_path))
    lab("attach", "xdp", "dut0", "filter.bpf.c")
    udp(lab.wire.peer, number=2)
    assert lab.get("dut0", "dropped") == 2
    [hook] = lab.hooks()
    assert hook["object"]["path"] == str(source)
    [made] = (tmp_path / "cache").glob("*.o")
    before = made.stat()
    lab("attach", "tc", "dut0", "filter.bpf.c")
    assert [one.stat().st_ino for one in (tmp_path / "cache").glob("*.o")] == [before.st_ino]
    # Another macro is another object.
    lab("attach", "tc", "dut0", "filter.bpf.c", "--egress", "-D", "OTHER=1")
    assert len(list((tmp_path / "cache").glob("*.o"))) == 2


def test_a_source_with_macros_and_header_directories(lab: Lab, tmp_path: Path) -> None:
    (tmp_path / "inc").mkdir()
    (tmp_path / "inc" / "mine.h").write_text("#define LIMIT 7\n")
    (tmp_path / "limit.bpf.c").write_text(
        "#include <linux/bpf.h>\n#include <bpf/bpf_helpers.h>\n#include <mine.h>\n"
        "const volatile int limit = LIMIT + EXTRA;\n"
        'SEC("xdp") int pass(struct xdp_md *ctx) { return limit ? XDP_PASS : XDP_DROP; }\n'
        'char _license[] SEC("license") = "GPL";\n'
    )
    lab("attach", "xdp", "dut0", "limit.bpf.c", "-I", "inc", "-D", "EXTRA=3")
    assert lab.get("dut0", "limit") == 10


@pytest.mark.parametrize("option", [(), ("--frontend", "bcc")], ids=["recognised", "named"])
def test_a_bcc_source(lab: Lab, tmp_path: Path, option: tuple[str, ...]) -> None:
    (tmp_path / "count.c").write_text(
        "#include <uapi/linux/bpf.h>\n"
        "BPF_HASH(seen, u32, u64);\n"
        "int count(struct xdp_md *ctx) { seen.increment(5); return XDP_PASS; }\n"
    )
    lab("attach", "xdp", "dut0", "count.c", *option)
    udp(lab.wire.peer, number=6)
    [hook] = lab("stats", "dut0", "--json").json["hooks"]
    [table] = hook["maps"]
    assert (table["name"], table["entries"]) == ("seen", [{"key": 5, "value": 6}])


# --- which program ---


def test_sections_by_habit_and_both_kinds_in_one_object(lab: Lab) -> None:
    path = lab.object("sections")
    lab("attach", "xdp", "dut0", path)
    lab("attach", "tc", "dut0", path, "-n", "first_tc")
    lab("attach", "tc", "dut0", path, "--egress")  # the only one whose section says egress
    assert lab.programs() == [
        ("dut0", "xdp", "first_xdp"),
        ("dut0", "tc/ingress", "first_tc"),
        ("dut0", "tc/egress", "third_tc"),
    ]
    with lab.wire.dut.capture("stack") as arrived:
        lost = [udp(lab.wire.peer, 1), udp(lab.wire.peer, 2)]
        kept = udp(lab.wire.peer, 3)
        arrived.expect(kept)
        arrived.expect_none(lost)
    for hook in ("xdp", "tc/ingress"):
        assert lab.get("dut0", "dropped", "--hook", hook) == 1


def test_a_section_that_names_the_direction_is_preferred(lab: Lab) -> None:
    lab("attach", "tc", "dut0", lab.object("sections"))
    assert lab.programs() == [("dut0", "tc/ingress", "second_tc")]


def test_chosen_by_section_name(lab: Lab) -> None:
    lab("attach", "tc", "dut0", lab.object("sections"), "--program", "classifier/stats")
    assert lab.programs() == [("dut0", "tc/ingress", "first_tc")]


def test_several_that_fit_are_listed(lab: Lab) -> None:
    done = lab("attach", "xdp", "dut0", lab.object("several"), code=3)
    assert done.error == (
        "several.o holds 3 programs that fit xdp: good (section xdp), rejected (section xdp), "
        "unsupported (section xdp); choose one with -n NAME"
    )
    assert lab.hooks() == []


def test_a_rejected_sibling_is_no_obstacle(lab: Lab) -> None:
    lab("attach", "xdp", "dut0", lab.object("several"), "-n", "good")
    assert lab.programs() == [("dut0", "xdp", "good")]


def test_the_verifiers_reason_in_one_line_and_its_log_on_request(lab: Lab) -> None:
    path = lab.object("several")
    *_, last = lab("attach", "xdp", "dut0", path, "-n", "rejected", code=4).err.splitlines()
    assert last.startswith("netbpf: error: ")
    assert "packet" in last
    done = lab("attach", "xdp", "dut0", path, "-n", "rejected", "-v", code=4)
    assert done.err.count("netbpf: error") == 1
    assert "processed " in done.err
    assert lab.hooks() == []


def test_what_the_kernel_lacks_is_named(lab: Lab) -> None:
    done = lab("attach", "xdp", "dut0", lab.object("several"), "-n", "unsupported", code=5)
    assert "bpf_not_in_any_kernel" in done.error


def test_an_unknown_program_gives_near_names(lab: Lab) -> None:
    done = lab("attach", "xdp", "dut0", lab.object("several"), "-n", "god", code=3)
    assert "no program 'god'" in done.error
    assert "did you mean good?" in done.error


def test_a_program_of_the_other_kind(lab: Lab) -> None:
    done = lab("attach", "xdp", "dut0", lab.object("sections"), "-n", "first_tc", code=3)
    assert "first_tc is a tc program" in done.error
    assert "netbpf attach tc" in done.error


def test_no_program_of_the_kind(lab: Lab) -> None:
    done = lab("attach", "tc", "dut0", "builtin:xdp_count", code=3)
    assert "xdp_count (xdp)" in done.error
    assert "netbpf attach xdp" in done.error


def test_a_shipped_program_without_its_prefix(lab: Lab) -> None:
    done = lab("attach", "xdp", "dut0", "xdp_count", code=3)
    assert done.error == "there is no file xdp_count; the shipped program is builtin:xdp_count"


# --- modes and directions ---


@pytest.mark.parametrize(
    ("word", "mode"),
    [
        ("native", "native"),
        ("drv", "native"),
        ("driver", "native"),
        ("skb", "skb"),
        ("generic", "skb"),
    ],
)
def test_modes_and_their_synonyms(lab: Lab, word: str, mode: str) -> None:
    done = lab("attach", "xdp", "dut0", "builtin:xdp_count", "--mode", word)
    assert f"({mode}, program" in done.out
    assert [one["mode"] for one in lab.hooks()] == [mode]
    assert ("xdpgeneric" in lab.run("ip", "link", "show", "dut0")) == (mode == "skb")
    udp(lab.wire.peer)
    assert lab("stats", "dut0", "--json").json["hooks"][0]["verdicts"]["pass"]["packets"] == 1


@pytest.mark.parametrize("word", ["hw", "offload"])
def test_no_hardware(lab: Lab, word: str) -> None:
    done = lab("attach", "xdp", "dut0", "builtin:xdp_count", "-m", word, code=5)
    assert "veth cannot offload" in done.error
    assert "--mode native" in done.error
    assert lab.hooks() == []


def test_auto_takes_native_where_it_can(lab: Lab) -> None:
    done = lab("attach", "xdp", "dut0", "builtin:xdp_count", "-m", "auto")
    assert "(native, program" in done.out
    assert done.err == ""


def test_auto_says_that_it_got_skb_and_why(lab: Lab) -> None:
    # A loopback has no native XDP.
    done = lab("attach", "xdp", "lo", "builtin:xdp_count", "-m", "auto")
    assert "(skb, program" in done.out
    assert done.err.startswith("netbpf: note: lo: not in native mode: ")
    again = lab("attach", "xdp", "lo", "builtin:xdp_count", "--replace", "-m", "native", code=2)
    assert "lo xdp runs in skb mode" in again.error


def test_native_never_falls_back(lab: Lab) -> None:
    done = lab("attach", "xdp", "lo", "builtin:xdp_count", code=5)
    assert "--mode skb" in done.error
    assert lab.hooks() == []


def test_mtu_too_large_for_native(lab: Lab) -> None:
    # What matters is the size of what may arrive: the peer's MTU.
    lab.run("ip", "link", "set", "peer0", "mtu", 9000, at=lab.wire.peer)
    done = lab("attach", "xdp", "dut0", "builtin:xdp_count", code=5)
    assert "MTU" in done.error
    assert lab.hooks() == []
    assert "(skb," in lab("attach", "xdp", "dut0", "builtin:xdp_count", "--mode", "auto").out


@pytest.mark.parametrize("link", [(), ("--link",)], ids=["clsact", "tcx"])
def test_directions(lab: Lab, link: tuple[str, ...]) -> None:
    mode = "tcx" if link else "clsact"
    done = lab("attach", "tc", "dut0", "builtin:tc_count", "--egress", *link)
    assert done.out.startswith(f"dut0 tc/egress: tc_count attached ({mode}, ")
    lab("attach", "tc", "dut0", "builtin:tc_count", "--ingress", *link)
    udp(lab.wire.peer, number=3)
    udp(lab.wire.dut, number=5)
    found = lab("stats", "dut0", "--json").json["hooks"]
    counted = {one["hook"]: sum(v["packets"] for v in one["verdicts"].values()) for one in found}
    assert counted == {"tc/ingress": 3, "tc/egress": 5}
    assert {one["mode"] for one in lab.hooks()} == {mode}


def test_ingress_is_the_default(lab: Lab) -> None:
    lab("attach", "tc", "dut0", "builtin:tc_count")
    assert [one["hook"] for one in lab.hooks()] == ["tc/ingress"]


def test_links(lab: Lab) -> None:
    done = lab("attach", "xdp", "dut0", "builtin:xdp_count", "--link")
    [hook] = lab.hooks()
    assert hook["link_id"] > 0
    assert f"(native, link {hook['link_id']}, program {hook['program']['id']})" in done.out
    udp(lab.wire.peer, number=2)
    assert lab("stats", "dut0", "--json").json["hooks"][0]["verdicts"]["pass"]["packets"] == 2
    lab("detach", "xdp", "dut0")
    assert lab.hooks() == []


# --- refused before anything happens ---


def test_an_occupied_hook_is_named_with_the_way_out(lab: Lab) -> None:
    lab("attach", "xdp", "dut0", "builtin:xdp_count")
    before = lab.hooks()
    done = lab("attach", "xdp", "dut0", "builtin:xdp_count", code=7)
    number = before[0]["program"]["id"]
    assert done.error == (
        f"dut0 xdp already runs xdp_count (program {number}, native, managed by netbpf); "
        "to bring it up to date: netbpf upgrade xdp dut0 xdp_count OBJECT; to run it twice, give --name; "
        f"or take it off: netbpf detach xdp dut0 --netns {lab.netns}"
    )
    assert lab.hooks() == before


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (("xdp", "dut0", "builtin:xdp_count", "--egress"), "--egress is for tc"),
        (("tc", "dut0", "builtin:tc_count", "--mode", "skb"), "--mode is for xdp"),
        (("tc", "dut0", "builtin:tc_count", "--pref", "0"), "0"),
        (("tc", "dut0", "builtin:tc_count", "--pref", "65536"), "65536"),
        (("tc", "dut0", "builtin:tc_count", "--pref", "abc"), "abc"),
        (("tc", "dut0", "builtin:tc_count", "--link", "--pref", "3"), "--pref"),
        (("xdp", "dut0", "builtin:xdp_count", "--mode", "fast"), "fast"),
        (("xdp", "dut0"), "OBJECT"),
        (("kprobe", "dut0", "x.o"), "kprobe"),
    ],
)
def test_what_contradicts_itself(lab: Lab, words: tuple[str, ...], reason: str) -> None:
    done = lab("attach", *words, code=2)
    assert reason in done.error
    assert lab.hooks() == []


def test_json(lab: Lab) -> None:
    made = lab("attach", "xdp", "dut0", "builtin:xdp_count", "--json").json
    assert (made["schema"], made["errors"]) == ("netbpf.attach/1", [])
    [hook] = made["hooks"]
    [shown] = lab.hooks()
    same = (
        "interface",
        "ifindex",
        "hook",
        "mode",
        "managed",
        "manager",
        "program",
        "object",
        "link_id",
    )
    assert {key: hook[key] for key in same} == {key: shown[key] for key in same}
    assert hook["replaced"] is None
