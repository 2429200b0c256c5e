"""Tables of cases: what a file may say, what is wrong in one and where, and what fails."""

import xml.etree.ElementTree as ET
from collections.abc import Callable
from pathlib import Path

import pytest

import netbpf
from netbpf.errors import ObjectError, PacketTextError, UsageError, VerifierError
from netbpf.packets.capture import open_capture
from netbpf.packets.cases_junit import write_junit
from netbpf.packets.cases_keep import write_failed
from netbpf.packets.cases_lines import Lines
from netbpf.packets.cases_model import CasesResult
from netbpf.packets.expression import read_expression
from tests.support.compiling import compile_c

# Drops what comes from a source in `blocked`, ages the rest. Counts, and remembers the last length.
ROUTER = """
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/ip.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>
enum mode { FORWARD, BOUNCE };
const volatile enum mode mode = FORWARD;
__u32 limit = 1000;
__u64 dropped, seen;
__u32 last_length;
struct stats { __u64 packets, bytes; };
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 16);
	__type(key, __be32);
	__type(value, struct stats);
} blocked SEC(".maps");
SEC("xdp") int router(struct xdp_md *ctx)
{
	void *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
	struct ethhdr *eth = data;
	struct iphdr *ip = (void *)(eth + 1);
	struct stats *stats;
	__u32 sum;

	if ((void *)(ip + 1) > end || eth->h_proto != bpf_htons(ETH_P_IP))
		return XDP_PASS;
	__sync_fetch_and_add(&seen, 1);
	last_length = end - data;
	stats = bpf_map_lookup_elem(&blocked, &ip->saddr);
	if (stats || seen > limit) {
		if (stats) {
			stats->packets++;
			stats->bytes += end - data;
		}
		__sync_fetch_and_add(&dropped, 1);
		return XDP_DROP;
	}
	ip->ttl--;
	sum = ip->check + bpf_htons(0x0100);
	ip->check = sum + (sum >= 0xffff);
	return mode == BOUNCE ? XDP_TX : XDP_PASS;
}
char _license[] SEC("license") = "GPL";
"""
MARKER = """
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
SEC("tc") int marker(struct __sk_buff *ctx) { ctx->mark += 7; ctx->cb[1] = ctx->priority; return -1; }
char _license[] SEC("license") = "GPL";
"""
META = """
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
SEC("xdp") int stamper(struct xdp_md *ctx)
{
	if (bpf_xdp_adjust_meta(ctx, -4))
		return XDP_ABORTED;
	unsigned int *meta = (void *)(long)ctx->data_meta;
	if ((void *)(meta + 1) > (void *)(long)ctx->data)
		return XDP_ABORTED;
	*meta = 0x04030201;
	return XDP_PASS;
}
char _license[] SEC("license") = "GPL";
"""
REFUSED = """
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
SEC("xdp") int refused(struct xdp_md *ctx) { return *(char *)(long)ctx->data; }
char _license[] SEC("license") = "GPL";
"""
HEAD = """
object = "prog.o"
[packets]
ping = "IP(src='10.0.0.1', dst='10.0.0.2', ttl=64)/ICMP()"
"""

Run = Callable[..., CasesResult]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Run a file of cases on a program."""

    def run(text: str, source: str = ROUTER, **named: object) -> CasesResult:
        (tmp_path / "prog.o").write_bytes(compile_c(source))
        (tmp_path / "cases.toml").write_text(text)
        return netbpf.run_cases(tmp_path / "cases.toml", **named)  # type: ignore[arg-type]

    return run


def kinds(result: CasesResult) -> list[list[str]]:
    """The kinds of the failures of each case."""
    return [[one.kind for one in case.failures] for case in result.results]


# --- what cases may say ----------------------------------------------------------------------------

GOOD = {
    "a verdict": 'packet = "ping"\nverdict = "pass"',
    "the kernel's name": 'packet = "ping"\nverdict = "XDP_PASS"',
    "one of several verdicts": 'packet = "ping"\nverdict = ["drop", "pass"]',
    "fields that change": 'packet = "ping"\noutput = {IP.ttl = 63}',
    "quoted fields": 'packet = "ping"\noutput = {"IP.ttl" = 63}',
    "a whole packet": """packet = "ping"\noutput = "IP(src='10.0.0.1', dst='10.0.0.2', ttl=63)/ICMP()" """,
    "a field that does not count": 'packet = "ping"\noutput = "unchanged"\nignore = ["IP.ttl", "IP.chksum"]',
    "an expression": """packet = "Ether()/IP(src='10.9.9.9', ttl=9)/UDP()"\noutput = {IP.ttl = 8}""",
    "hex digits": 'packet = {hex = "ffffffffffff 020000000001 0806"}\nverdict = "pass"\noutput = "unchanged"',
    "counters": 'packet = "ping"\ncounters = {seen = 1, last_length = "=42"}',
    "a value, not a difference": 'packet = "ping"\ncounters = {seen = "=1", last_length = "42"}',
    "nothing moves": 'packet = "ARP()"\ncounters = {}',
    "counters that may be anything": 'packet = "ping"\ncounters = {seen = 1}\nignore-counters = ["last_*"]',
    "a variable": 'set = {limit = 0}\npacket = "ping"\nverdict = "drop"',
    "a constant by its name": 'set = {mode = "BOUNCE"}\npacket = "ping"\nverdict = "tx"',
    "a map entry": """set = {"blocked[10.0.0.1]" = "{packets: 0}"}\npacket = "ping"\nverdict = "drop"
        [case.counters]
        seen = 1
        dropped = 1
        last_length = 42
        "blocked[10.0.0.1]" = {packets = 1, bytes = 42}""",
    "a map entry as a table": """set = {"blocked[10.0.0.1]" = {packets = 5, bytes = 6}}\npacket = "ping"
        [case.counters]
        seen = 1
        dropped = 1
        last_length = 42
        "blocked[10.0.0.1]" = {packets = 1, bytes = 42}""",
    "repetition": 'set = {limit = 5}\npacket = "ping"\nrepeat = 5\nverdict = "pass"',
    "steps": """set = {limit = 2}
        counters = {seen = 3, dropped = 1, last_length = 42}
        [[case.step]]
        packet = "ping"
        repeat = 2
        verdict = "pass"
        counters = {seen = 2, last_length = 42}
        [[case.step]]
        packet = "ping"
        verdict = "drop"
        [[case.step]]
        set = {limit = 4}
        packet = "ARP()"
        verdict = "pass" """,
    "map size": 'map-size = {blocked = 4}\npacket = "ping"\nverdict = "pass"',
    "the program by name": 'program = "router"\nhook = "xdp"\npacket = "ping"\nverdict = "pass"',
    "the interface": 'ifindex = 1\npacket = "ping"\nverdict = "pass"',
}  # fmt: skip


@pytest.mark.parametrize("text", GOOD.values(), ids=GOOD)
def test_a_case_that_holds_passes(run: Run, text: str) -> None:
    result = run(f"{HEAD}\n[[case]]\n{text}")
    assert kinds(result) == [[]]
    assert result.passed


def test_a_list_of_packets_is_a_list_of_cases(run: Run) -> None:
    result = run(
        HEAD
        + '[[case]]\nname = "all pass"\npacket = ["ping", "ARP()", {hex = "ffffffffffff 020000000001 0806"}]'
        '\nverdict = "pass"'
    )
    assert [one.case.name for one in result.results] == [f"all pass [{n}]" for n in (1, 2, 3)]


def test_what_stands_at_the_top_is_for_all_cases_and_each_may_say_otherwise(run: Run) -> None:
    result = run(
        'object = "prog.o"\nset = {mode = "BOUNCE"}\nignore = ["IP.ttl", "IP.chksum"]\noutput = "unchanged"\n'
        '[[case]]\nname = "a"\npacket = "IP()"\nverdict = "tx"\n'
        '[[case]]\nname = "b"\nset = {mode = "FORWARD"}\npacket = "IP()"\nverdict = "pass"\noutput = {IP.ttl = 63}\n'
    )
    assert kinds(result) == [[], []]


def test_cases_do_not_see_each_other(run: Run) -> None:
    case = '[[case]]\nname = "{}"\npacket = "ping"\ncounters = {{seen = "=1", last_length = 42}}\n'
    assert run(HEAD + case.format("a") + case.format("b")).passed


def test_a_tc_program_gets_and_gives_a_context(run: Run) -> None:
    case = """
        [[case]]
        name = "{}"
        mark = 3
        priority = 9
        cb = [1, 2]
        packet = "IP()/UDP()"
        verdict = "{}"
        output = {}
    """
    right = '{"skb.mark" = 10, "skb.cb[1]" = 9}'
    text = 'object = "prog.o"\n' + case.format("right", "pass", right)
    text += case.format("the kernel's word", "unspec", right) + case.format(
        "wrong", "ok", '"unchanged"'
    )
    result = run(text, MARKER)
    assert kinds(result) == [[], [], ["verdict", "context", "context"]]
    assert [one.message for one in result.results[2].failures[1:]] == [
        "expected skb.mark 3, got 10",
        "expected skb.cb[1] 2, got 9",
    ]


def test_metadata_is_part_of_the_output(run: Run) -> None:
    case = '[[case]]\nname = "{}"\npacket = "IP()"\noutput = {}\n'
    result = run(
        'object = "prog.o"\n'
        + case.format("a", '{"xdp.meta" = "01 02 03 04"}')
        + case.format("b", '"unchanged"'),
        META,
    )
    assert kinds(result) == [[], ["context"]]
    assert result.results[1].failures[0].message == "expected xdp.meta none, got 01020304"


def test_a_packet_of_a_file_is_found_beside_the_cases(run: Run, tmp_path: Path) -> None:
    (tmp_path / "ping.hex").write_text(read_expression("IP()/ICMP()").hex())
    assert run(HEAD + '[[case]]\npacket = {file = "ping.hex"}\noutput = {IP.ttl = 63}').passed


def test_another_object_can_be_tested(run: Run, tmp_path: Path) -> None:
    (tmp_path / "other.o").write_bytes(compile_c(ROUTER.replace("ip->ttl--", "ip->ttl -= 2")))
    text = HEAD + '[[case]]\npacket = "ping"\noutput = {IP.ttl = 63}'
    assert run(text).passed
    other = netbpf.read_cases(tmp_path / "cases.toml", object=str(tmp_path / "other.o"))
    assert kinds(netbpf.run_cases(other)) == [["output"]]


def test_words_choose(run: Run) -> None:
    text = HEAD + "".join(
        f'[[case]]\nname = "{name}"\npacket = "ping"\nverdict = "pass"\n'
        for name in ("DNS passes", "web passes", "ping")
    )
    result = run(text, words=["dns", "PING"])
    assert [one.case.name for one in result.results] == ["DNS passes", "ping"]
    assert result.skipped == 1
    with pytest.raises(UsageError, match=r"no case of .* is called like that"):
        run(text, words=["ssh"])


def test_shipped_programs_can_be_tested_too(run: Run) -> None:
    result = run(
        'object = "builtin:xdp_drop"\n[[case]]\nset = {"udp_dport[53]" = "{action: DROP, rule: 7}"}\n'
        'packet = "IP()/UDP(dport=53)"\nverdict = "drop"\n'
        'counters = {"hits[7].packets" = 1, "hits[7].bytes" = 42, '
        '"verdicts[drop].packets" = 1, "verdicts[drop].bytes" = 42}'
    )
    assert kinds(result) == [[]]


# --- what fails -----------------------------------------------------------------------------------

BAD = {
    "verdict": ('verdict = "drop"', "verdict", "expected drop, got pass", "Ether / IP"),
    "one of several": ('verdict = ["drop", "tx"]', "verdict", "expected drop or tx, got pass", ""),
    "unchanged": ('output = "unchanged"', "output", "", "IP.ttl     expected 64      got 63"),
    "another value": ('output = {IP.ttl = 62}', "output", "", "IP.ttl     expected 62      got 63"),
    "another packet": ('output = "ARP()"', "output", "", "  offset"),
    "too little ignored": ('output = "unchanged"\nignore = ["IP.ttl"]', "output", "", "  IP.chksum"),
    "too few": ('counters = {seen = 2, last_length = 42}', "counters", "", "seen  0 -> 1 (+1), expected +2"),
    "one too many": ('counters = {seen = 1}', "counters", "", "last_length  0 -> 42 (+42), expected no change"),
    "none": (
        'counters = {seen = 1, last_length = 42, dropped = 1}', "counters", "", "dropped  did not move, expected +1",
    ),
    "an entry": (
        'counters = {seen = 1, last_length = 42, "blocked[1.1.1.1].packets" = 1}', "counters", "", "did not move",
    ),
    "a value": ('counters = {seen = 1, last_length = "=43"}', "counters", "", "last_length  expected 43, got 42"),
    "a value that did not change": (
        'counters = {seen = 1, last_length = 42, limit = "=7"}', "counters", "", "expected 7, got it did not change",
    ),
    "a context": ('output = {IP.ttl = 63, "xdp.meta" = "01"}', "context", "expected xdp.meta 01, got none", ""),
}  # fmt: skip


@pytest.mark.parametrize(("text", "kind", "message", "detail"), BAD.values(), ids=BAD)
def test_a_case_that_does_not_hold_fails(
    run: Run, text: str, kind: str, message: str, detail: str
) -> None:
    result = run(f'{HEAD}\n[[case]]\npacket = "ping"\n{text}')
    [[failure]] = [one.failures for one in result.results]
    assert failure.kind == kind
    assert message in failure.message
    assert detail in "\n".join(failure.detail)
    assert not result.passed


def test_a_failure_names_its_step(run: Run) -> None:
    result = run(
        HEAD
        + 'set = {limit = 2}\n[[case]]\n[[case.step]]\npacket = "ping"\nverdict = "pass"\n'
        '[[case.step]]\npacket = "ping"\nrepeat = 3\nverdict = "pass"\n'.replace("set", "#")
    )
    assert result.passed
    result = run(
        'object = "prog.o"\nset = {limit = 2}\n[[case]]\n[[case.step]]\npacket = "IP()"\nverdict = "pass"\n'
        '[[case.step]]\npacket = "IP()"\nrepeat = 3\nverdict = "pass"\n'
    )
    [failure] = result.results[0].failures
    assert (failure.step, failure.message) == (2, "expected pass, got drop")
    assert len(result.results[0].ran) == 3, "what is repeated ends with the first that fails"


def test_a_program_that_cannot_be_loaded_is_an_error_of_its_case(run: Run, tmp_path: Path) -> None:
    (tmp_path / "bad.o").write_bytes(compile_c(REFUSED))
    text = HEAD + '[[case]]\nname = "a"\npacket = "ping"\nverdict = "pass"\n'
    bad = '[[case]]\nname = "b"\nobject = "bad.o"\npacket = "ping"\nverdict = "pass"\n'
    result = run(text + bad)
    assert [one.outcome for one in result.results] == ["passed", "error"]
    assert isinstance(result.results[1].error, VerifierError)
    with pytest.raises(VerifierError):
        run(HEAD + bad)
    with pytest.raises(ObjectError, match=r"cases.toml:2: .*nothing.o"):
        run(text.replace("prog.o", "nothing.o"))


# --- what is wrong in a file ------------------------------------------------------------------------

WRONG = {
    "no TOML": ("[[case]]\npacket = ", 6, "this is no TOML"),
    "a key of a case": ('[[case]]\npacket = "ping"\nverdct = "pass"', 7, "no key verdct; did you mean verdict"),
    "a key of the file": ('[[cse]]\npacket = "ping"', 5, "the file has no key cse"),
    "a key of a step": ('[[case]]\n[[case.step]]\npacket = "ping"\nfoo = 1', 8, "a step has no key foo"),
    "no packet": ('[[case]]\nverdict = "pass"', 5, "the case has no packet"),
    "nothing expected": ('[[case]]\npacket = "ping"', 5, "nothing is expected"),
    "nothing expected of a step": ('[[case]]\n[[case.step]]\npacket = "ping"', 6, "nothing is expected"),
    "a packet's name": ('[[case]]\npacket = "pong"\nverdict = "pass"', 6, "no packet pong; did you mean ping"),
    "a packet's text": ('[[case]]\npacket = "IP(tl=3)"\nverdict = "pass"', 6, "IP has no field tl"),
    "hex digits": ('[[case]]\npacket = {hex = "xx"}\nverdict = "pass"', 6, "no hex digit"),
    "two packets": ('[[case]]\npacket = {hex = "00", file = "x"}\nverdict = "pass"', 6, "a packet is {hex = ...} or"),
    "a packet file": ('[[case]]\npacket = {file = "none.pcap"}\nverdict = "pass"', 6, "none.pcap"),
    "a verdict": ('[[case]]\npacket = "ping"\nverdict = "shot"', 7, "'shot' is no verdict of xdp"),
    "a verdict's type": ('[[case]]\npacket = "ping"\nverdict = 1', 7, "verdict is a text or a list of texts"),
    "a counter": ('[[case]]\npacket = "ping"\ncounters = {sen = 1}', 7, "no variable or map sen; did you mean seen"),
    "a counter's value": ('[[case]]\npacket = "ping"\ncounters = {seen = [1]}', 7, "seen moves by a number"),
    "a field": ('[[case]]\npacket = "ping"\noutput = {IP.tll = 1}', 7, "the packet has no field IP.tll"),
    "a field's value": ('[[case]]\npacket = "ping"\noutput = {IP.ttl = 300}', 7, "IP.ttl cannot be 300"),
    "an ignored field": (
        '[[case]]\npacket = "ping"\noutput = "unchanged"\nignore = "IP.tll"', 8, "has no field IP.tll",
    ),
    "a context field": ('[[case]]\npacket = "ping"\noutput = {"skb.mark" = 1}', 7, "there is no skb.mark"),
    "a variable": ('[[case]]\npacket = "ping"\nverdict = "pass"\nset = {limt = 1}', 8, "no variable or map 'limt'"),
    "a variable's value": ('[[case]]\npacket = "ping"\nverdict = "pass"\nset = {limit = -1}', 8, "limit"),
    "a map's key": ('[[case]]\npacket = "ping"\nverdict = "pass"\nset = {"blocked[x]" = 1}', 8, "blocked"),
    "a repetition": ('[[case]]\npacket = "ping"\nverdict = "pass"\nrepeat = 0', 8, "repeat is a number from 1"),
    "a hook": ('[[case]]\npacket = "ping"\nverdict = "pass"\nhook = "egress"', 8, 'hook is "xdp" or "tc"'),
    "a context of TC": ('[[case]]\npacket = "ping"\nverdict = "pass"\nmark = "x"', 8, "mark is a number"),
    "steps and a packet": ('[[case]]\npacket = "ping"\n[[case.step]]\npacket = "ping"', 6, "a packet or steps"),
    "a key of a map": ('[[case]]\npacket = "ping"\ncounters = {"blocked[x].packets" = 1}', 7, "blocked"),
    "the same name": (
        '[[case]]\nname = "a"\npacket = "ping"\nverdict = "pass"\n' * 2, 9, "a second case is called 'a'",
    ),
    "no case": ("", 1, "there is no case"),
}  # fmt: skip


@pytest.mark.parametrize(("text", "line", "message"), WRONG.values(), ids=WRONG)
def test_what_is_wrong_is_named_with_its_line(run: Run, text: str, line: int, message: str) -> None:
    with pytest.raises(UsageError) as info:
        run(HEAD + text)
    words = f"{info.value.message}; {info.value.hint}"
    assert f"cases.toml:{line}: " in words
    assert message in words


def test_a_packet_s_text_is_marked(run: Run) -> None:
    with pytest.raises(PacketTextError) as info:
        run(HEAD + '[[case]]\npacket = "IP()/UDPP()"\nverdict = "pass"')
    error = info.value
    assert error.text[error.at : error.at + error.length] == "UDPP"


def test_a_file_that_is_none(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"cannot read .*No such file"):
        netbpf.run_cases(tmp_path / "none.toml")
    (tmp_path / "binary.toml").write_bytes(b"a = 1\n\xff\xfe")
    with pytest.raises(UsageError, match=r"binary.toml:2: this is no UTF-8"):
        netbpf.run_cases(tmp_path / "binary.toml")
    (tmp_path / "empty.toml").write_text("[[case]]\npacket = 'IP()'\nverdict = 'pass'")
    with pytest.raises(UsageError, match=r"empty.toml:1: which object is tested"):
        netbpf.run_cases(tmp_path / "empty.toml")


def test_nothing_runs_before_the_whole_file_is_read(run: Run) -> None:
    ran: list[object] = []
    with pytest.raises(UsageError):
        run(
            HEAD
            + '[[case]]\npacket = "ping"\nverdict = "pass"\n[[case]]\npacket = "X()"\nverdict = "pass"',
            progress=ran.append,
        )
    assert ran == []


def test_lines_are_found_whatever_the_file_looks_like() -> None:
    text = """# a comment
'quoted key' = 1
long = '''
[[case]]
not = "a key"
'''
[packets]
"a.b" = "x"
[[case]]
name = "one"  # [[case]]
counters = { a = 1,
  b = 2 }
[[case.step]]
packet = 1
[[case]]
[[case.step]]
[[case.step]]
output.IP.ttl = 3
"""
    lines = Lines(text)
    assert lines.of("quoted key") == 2
    assert lines.of("packets", "a.b") == 8
    assert lines.of("case", 0) == 9
    assert lines.of("case", 0, "counters", "b") in (11, 12)
    assert lines.of("case", 0, "step", 0, "packet") == 14
    assert lines.of("case", 1, "step", 1, "output") == 18
    assert lines.of("case", 7, "nothing") == 9
    assert lines.of("nothing") == 1


# --- results in files -------------------------------------------------------------------------------


def test_junit_has_every_case(run: Run, tmp_path: Path) -> None:
    (tmp_path / "bad.o").write_bytes(compile_c(REFUSED))
    result = run(
        HEAD + '[[case]]\nname = "fine"\npacket = "ping"\nverdict = "pass"\n'
        '[[case]]\nname = "<&\\"\\u0007>"\npacket = "ping"\nverdict = "drop"\noutput = "unchanged"\n'
        '[[case]]\nname = "refused"\nobject = "bad.o"\npacket = "ping"\nverdict = "pass"\n'
    )
    write_junit(tmp_path / "out.xml", [result, result])
    root = ET.parse(tmp_path / "out.xml").getroot()
    assert root.tag == "testsuites"
    assert {key: root.get(key) for key in ("tests", "failures", "errors")} == {
        "tests": "6",
        "failures": "2",
        "errors": "2",
    }
    first, second = root
    assert first.attrib["tests"] == second.attrib["tests"] == "3"
    fine, failed, refused = first
    assert (fine.get("name"), len(fine), fine.get("line")) == ("fine", 0, "5")
    assert failed.get("name") == '<&"\N{REPLACEMENT CHARACTER}>'
    [failure] = failed
    assert failure.tag == "failure"
    assert failure.get("message", "").startswith("expected drop, got pass; ")
    assert "IP.ttl     expected 64      got 63" in (failure.text or "")
    [error] = refused
    assert (error.tag, error.get("type")) == ("error", "VerifierError")
    assert sorted(path.name for path in tmp_path.iterdir() if path.suffix == ".xml") == ["out.xml"]


def test_the_packets_of_failed_cases_are_kept(run: Run, tmp_path: Path) -> None:
    result = run(
        HEAD + '[[case]]\nname = "fine"\npacket = "ping"\nverdict = "pass"\n'
        '[[case]]\nname = "wrong"\npacket = "ping"\nverdict = "drop"\n'
    )
    assert write_failed(tmp_path / "failed.pcapng", result.results) == 1
    with open_capture(tmp_path / "failed.pcapng") as capture:
        [packet] = [
            block.packet(n) for block in capture.blocks() for n in range(len(block.numbers))
        ]
    assert packet == result.results[1].ran[0].before
    assert b"wrong: pass" in (tmp_path / "failed.pcapng").read_bytes()
