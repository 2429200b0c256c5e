"""docs/json.md describes what ``--json`` prints: every field that comes, and no other."""

import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.docs.session import Page, Step, run

PAGE = Path(__file__).parents[2] / "docs" / "json.md"

# Together they print every field there is.
COMMANDS = """
netbpf attach xdp eth0 builtin:xdp_count --json
netbpf attach xdp eth0,eth1 builtin:xdp_count --json
netbpf attach tc eth0 builtin:tc_globals --link --json
netbpf attach auto companion.bpf.c --json
netbpf status --json
netbpf detach auto --json
netbpf stats eth0 --all --json
netbpf stats eth0 --watch 0.05 --json >rounds & watch=$!
until [ -s rounds ]; do sleep 0.05; done
python3 -m tests.docs.send 3 udp 53 eth0
n=$(wc -l <rounds); until [ $(wc -l <rounds) -gt $((n + 1)) ]; do sleep 0.05; done
kill $watch; wait $watch; tail -1 rounds
ip link add wire7 type veth peer name eth7; ip link set eth7 up; ip link set wire7 up
netbpf attach xdp eth7 forward.bpf.c --redirect 'ports[1]=eth1' >/dev/null
netbpf monitor eth7 --interval 60 --json >wrong & until [ -s wrong ]; do sleep 0.05; done
python3 -m tests.docs.send 2 udp 53 eth7
kill $!; wait $!; cat wrong; ip link del eth7
netbpf capture xdp eth0 -c 1 --json 2>told >seen & until [ -s told ]; do sleep 0.05; done
netbpf status eth0 --json; python3 -m tests.docs.send 1 udp 53 eth0; wait $!; cat seen
netbpf get eth0 packets tc_globals.sizes --json
netbpf set eth0 min_bytes=64 --json
netbpf attach tc eth1 builtin:tc_count --confirm 1h --json >/dev/null; netbpf confirm --undo --json
netbpf compile prog.bpf.c --json
python3 -m tests.docs.capture in.pcap
netbpf replay builtin:xdp_globals in.pcap --json
netbpf send eth0 --hex ffffffffffff02000000000188b5 --expect wire0 --json
netbpf send eth0 in.pcap --json
head -c 70 in.pcap | netbpf send eth0 - --json 2>/dev/null
netbpf replay builtin:xdp_count in.pcap --json --coverage
ip link add wire9 type veth peer name eth9; ip link set eth9 up; ip link set wire9 up
netbpf attach xdp eth9 builtin:xdp_count >/dev/null
netbpf capture xdp eth9 -c 1 --json 2>told9 >seen & until [ -s told9 ]; do sleep 0.05; done
netbpf attach xdp eth9 builtin:xdp_globals --json; netbpf chain eth9 --json
python3 -m tests.docs.send 2 udp 53 eth9; wait $!
netbpf chain eth9 --json
netbpf chain eth1 --json
netbpf chain eth9 --watch 0.05 --count 2 --json
netbpf stats eth9 --json
netbpf replay --on eth9 in.pcap --json
netbpf upgrade eth9 xdp_globals prog.bpf.c --dry-run --json
netbpf upgrade eth9 xdp_globals wide.bpf.c --json
netbpf upgrade eth9 xdp_globals wider.bpf.c --json
netbpf rollback eth9 xdp_globals --confirm 1h --json; netbpf confirm >/dev/null
netbpf detach xdp eth9 xdp_count --json
ip link del eth9
netbpf diff prog.bpf.c drop.bpf.c in.pcap --json; true
netbpf test cases.toml --json --coverage; true
netbpf run builtin:xdp_count --packet "IP()/ICMP()" --coverage-data kept.json >/dev/null; cat kept.json
ip link add wire8 type veth peer name eth8; netbpf attach xdp eth8 held.bpf.c --link >/dev/null
mkfifo gate
python3 -m tests.inspect.hold held_prog gate & read -r _ <gate
netbpf prog show name held_prog --json
netbpf map show name held_map --json
netbpf btf list --json
netbpf link list /sys/fs/bpf/netbpf/links/*-xdp --json
netbpf map update held_each 1 all:5 --json
netbpf map lookup held_each 1 --json
netbpf map dump held_each --json
netbpf map delete held_each 1 --json
netbpf map pin held_each /sys/fs/bpf/held_each --json; rm /sys/fs/bpf/held_each
netbpf prog dump name held_prog --opcodes --json
netbpf prog dump name held_prog --jited --json
kill $!; wait $!; ip link del eth8
netbpf btf list 1 --json
netbpf btf dump kinds.bpf.c --json
netbpf load kept.bpf.c --json
ip link add wire7 type veth peer name eth7; netbpf attach xdp eth7 pinned:/sys/fs/bpf/netbpf/loaded/kept >/dev/null
python3 -m tests.inspect.hold kept_prog gate & read -r _ <gate
netbpf status --json
netbpf unload --json
kill $!; wait $!; ip link del eth7
ip link add wire6 type veth peer name eth6; ip link set eth6 up; ip link set wire6 up
netbpf attach xdp eth6 telling.bpf.c >/dev/null
netbpf trace eth6 -c 1 --json >lines 2>told6 & traced=$!
until [ -s told6 ]; do sleep 0.05; done
python3 -m tests.docs.send 2 udp 53 eth6; wait $traced; cat lines
netbpf events eth6 -c 1 --json
netbpf events eth6 lengths --json
ip link del eth6
ip link add wire5 type veth peer name eth5; ip link set eth5 up; ip link set wire5 up
netbpf attach xdp eth5 builtin:xdp_count >/dev/null; netbpf attach tc eth5 builtin:tc_count >/dev/null
netbpf explain eth5 in.pcap --json
netbpf explain eth5 --hex 02000000000202000000000108004500000600 --json; ip link del eth5
netbpf inspect wishes.bpf.c --json
netbpf inspect wishes.bpf.c --source --json
netbpf inspect wishes.bpf.c --headers --json
netbpf run edit.bpf.c --packet "IP()/ICMP()" --json --coverage
netbpf run builtin:xdp_count --packet "IP(" --json
netbpf detach xdp eth0 --json
ip link del eth1
netbpf detach xdp eth1 --json
netbpf detach xdp eth0 --json
netbpf nonsense --json
netbpf doctor --json; true
netbpf features --json
netbpf features --has ringbuf --has bpf_none --json; true
netbpf attach xdp eth0 rejected.bpf.c --json
"""
SOURCE = """
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
SEC("xdp") int pass(struct xdp_md *ctx) { return XDP_PASS; }
"""
WIDE = SOURCE.replace('SEC("xdp")', '__u32 packets; __u32 gone = 1;\nSEC("xdp")').replace(
    "return", "packets += gone; return"
)
WIDER = WIDE.replace("__u32 packets; __u32 gone = 1;", "__u32 gone; __u64 packets;")
DROP = SOURCE.replace("XDP_PASS", "XDP_DROP")
FORWARD = """
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
struct {
	__uint(type, BPF_MAP_TYPE_DEVMAP);
	__uint(max_entries, 4);
	__type(key, __u32);
	__type(value, __u32);
} ports SEC(".maps");
SEC("xdp") int forward(struct xdp_md *ctx) { return bpf_redirect_map(&ports, 1, 0); }
char _license[] SEC("license") = "GPL";
"""
TELLING = """
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
struct seen { __u32 length; };
struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 4096);
	__type(value, struct seen);
} events SEC(".maps");
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 8);
	__type(key, int);
	__type(value, __u64);
} lengths SEC(".maps");
SEC("xdp") int telling(struct xdp_md *ctx)
{
	struct seen seen = { .length = ctx->data_end - ctx->data };
	int slot = 6;
	__u64 *count = bpf_map_lookup_elem(&lengths, &slot);

	if (count)
		(*count)++;
	bpf_printk("%d bytes", seen.length);
	bpf_ringbuf_output(&events, &seen, sizeof(seen), 0);
	return XDP_PASS;
}
char _license[] SEC("license") = "GPL";
"""
REJECTED = """
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
SEC("xdp") int read(struct xdp_md *ctx) { return *(char *)(long)ctx->data; }
"""
COMPANION = """
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
int started;
SEC("raw_tp/sched_process_exec") int on_exec(void *ctx) { return started++ & 0; }
"""

# Changes what it can reach: packet, context, a variable, a map.
EDIT = """
#include <linux/bpf.h>
#include <linux/pkt_cls.h>
#include <bpf/bpf_helpers.h>
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 4);
	__type(key, __u32);
	__type(value, __u32);
} seen SEC(".maps");
__u64 packets;
SEC("tc") int edit(struct __sk_buff *skb)
{
	__u32 key = 1;
	__u8 ttl = 3;

	packets++;
	skb->mark = 5;
	bpf_map_update_elem(&seen, &key, &key, 0);
	bpf_skb_store_bytes(skb, 22, &ttl, 1, 0);
	return TC_ACT_OK;
}
"""

# Something of everything that an object can hold, and something that no kernel has.
WISHES = """
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 4);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, __u32);
	__type(value, __u32);
} seen SEC(".maps");
int total;
struct task_struct { int pid; int mood; } __attribute__((preserve_access_index));
extern int nowhere(void) __ksym __weak;
static __noinline int part(__u32 key) { total++; return bpf_map_lookup_elem(&seen, &key) != 0; }
SEC("xdp") int wishes(struct xdp_md *ctx)
{
	struct task_struct *task = (void *)bpf_get_current_task();
	int found = 0;

	bpf_probe_read_kernel(&found, 4, &task->pid);
	bpf_probe_read_kernel(&found, 4, &task->mood);
	return nowhere ? nowhere() : part(found);
}
char _license[] SEC("license") = "GPL";
"""

KIND = """
struct later;
struct kinds { int bits:3; struct later *next; enum { KIND = 1 } kind; int list[4]; int (*call)(int number); };
struct kinds kinds __attribute__((btf_decl_tag("of every kind")));
"""
KINDS = SOURCE + KIND

CASES = """
object = "edit.bpf.c"
[[case]]
packet = "IP()/UDP()"
verdict = "shot"
output = "unchanged"
counters = { packets = 2 }
[[case]]
object = "rejected.bpf.c"
packet = "IP()/UDP()"
verdict = "drop"
"""

HELD = """
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_HASH);
	__uint(max_entries, 4);
	__type(key, __u32);
	__type(value, __u64);
} held_each SEC(".maps");
SEC("xdp") int held_prog(struct xdp_md *ctx)
{
	__u32 key = 1;

	bpf_map_lookup_elem(&held_each, &key);
	return bpf_map_lookup_elem(&held_map, &key) ? XDP_PASS : XDP_DROP;
}
"""

Outputs = dict[str, list[dict[str, Any]]]


def named(text: str) -> str:
    """What is looked up by its name in the whole kernel has one of its own in each process that runs these tests."""
    return re.sub(r"\b(held|kept)_(?=prog|map|each)", rf"\g<1>{os.getpid() % 100_000}_", text)


@pytest.fixture(scope="module")
def outputs() -> Outputs:
    """What the commands print, by schema."""
    sources = {
        "prog.bpf.c": SOURCE,
        "rejected.bpf.c": REJECTED,
        "forward.bpf.c": FORWARD,
        "telling.bpf.c": TELLING,
        "drop.bpf.c": DROP,
        "wide.bpf.c": WIDE,
        "wider.bpf.c": WIDER,
        "companion.bpf.c": COMPANION,
        "edit.bpf.c": EDIT,
        "cases.toml": CASES,
        "wishes.bpf.c": WISHES,
        "kinds.bpf.c": KINDS,
        "kept.bpf.c": SOURCE.replace(
            'SEC("xdp") int pass(', KIND + 'SEC("xdp") int kept_prog('
        ).replace("return XDP", "return kinds.kind + XDP"),
        "held.bpf.c": WISHES.split("static")[0]
        .partition("struct task")[0]
        .replace("seen", "held_map")
        + HELD,
    }
    sources["held.bpf.c"] = named(sources["held.bpf.c"])
    sources["kept.bpf.c"] = named(sources["kept.bpf.c"])
    page = Page(sources, [Step(named(line)) for line in COMMANDS.strip().splitlines()])
    run(page)
    found: Outputs = {}
    for step in page.steps:
        for line in step.output.splitlines():
            if line.startswith("{"):
                content = json.loads(line)
                found.setdefault(content.pop("schema"), []).append(content)
    return found


def sections() -> dict[str, set[str]]:
    """The documented fields by schema; what is said of a hook belongs to two of them."""
    found: dict[str, set[str]] = {}
    for head, body in re.findall(
        r"^## (.*?)\n(.*?)(?=^## |\Z)", PAGE.read_text(), re.MULTILINE | re.DOTALL
    ):
        found[head] = set(re.findall(r"^\| `([^`]+)` \|", body, re.MULTILINE))
    hook = {f"hooks[].{one}" for one in found.pop("A hook")}
    group = {f"auto[].{one}" for one in found.pop("A set")}
    for schema in ("netbpf.status/1", "netbpf.attach/1", "netbpf.detach/1"):
        found[schema] |= group
    found.pop("Values")
    for schema in ("netbpf.status/1", "netbpf.attach/1", "netbpf.chain/1"):
        found[schema] |= hook
    return found


def leaves(documented: set[str]) -> set[str]:
    """Fields without fields of their own."""
    return {
        one for one in documented
        if not any(other != one and re.match(re.escape(one) + r"[.\[{]", other) for other in documented)
    }  # fmt: skip


def fields(value: Any, path: str, documented: set[str]) -> Iterator[str]:
    """The fields of a real value, as far down as the page goes."""
    if path in documented:
        yield path
    elif isinstance(value, dict):
        free = any(one.startswith(path + "{}") for one in documented)
        for name, one in value.items():
            below = path + "{}" if free else f"{path}.{name}" if path else name
            yield from fields(one, below, documented)
    elif isinstance(value, list):
        for one in value:
            yield from fields(one, path + "[]", documented)
    elif value is not None:
        yield path


@pytest.mark.root
@pytest.mark.parametrize("schema", sections())
def test_the_page_has_the_fields_that_come(schema: str, outputs: Outputs) -> None:
    documented = leaves(sections()[schema])
    assert schema in outputs
    found = {one for content in outputs[schema] for one in fields(content, "", documented)}
    assert found - documented == set(), "not on the page"
    assert documented - found == set(), "on the page only"


@pytest.mark.root
def test_every_schema_has_its_section(outputs: Outputs) -> None:
    assert set(outputs) == set(sections())


def test_fields_go_as_far_down_as_the_page() -> None:
    documented = leaves({"a", "a.b", "c[].d", "e{}", "f{}.g", "h"})
    assert documented == {"a.b", "c[].d", "e{}", "f{}.g", "h"}
    value: dict[str, Any] = {
        "a": {"b": 1, "x": 2},
        "c": [{"d": {}}],
        "e": {"n": [1]},
        "f": {"n": {"g": 1}},
        "h": None,
        "i": [3],
    }
    assert set(fields(value, "", documented)) == {"a.b", "a.x", "c[].d", "e{}", "f{}.g", "h", "i[]"}  # fmt: skip
