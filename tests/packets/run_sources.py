"""Programs that show what a run sees and does."""

from tests.support.compiling import compile_c

_HEAD = """
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/pkt_cls.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_endian.h>
char _license[] SEC("license") = "GPL";
"""

XDP = """
struct seen { __u32 ifindex, queue, meta, first, length; };
struct seen seen;
__u64 runs;
const volatile __u32 verdict = XDP_PASS;

SEC("xdp") int look(struct xdp_md *ctx)
{
	__u32 *meta = (void *)(long)ctx->data_meta;

	runs++;
	seen.ifindex = ctx->ingress_ifindex;
	seen.queue = ctx->rx_queue_index;
	seen.length = ctx->data_end - ctx->data;
	seen.meta = ctx->data - ctx->data_meta;
	if ((void *)(meta + 1) <= (void *)(long)ctx->data)
		seen.first = *meta;
	return verdict;
}
"""

TC = """
struct seen { __u32 mark, priority, ifindex, ingress, cb[5], protocol, wire_len, gso_segs; };
struct seen seen;
const volatile int verdict = TC_ACT_OK;
const volatile __u32 new_mark = 0;

SEC("tc") int look(struct __sk_buff *skb)
{
	seen.mark = skb->mark;
	seen.priority = skb->priority;
	seen.ifindex = skb->ifindex;
	seen.ingress = skb->ingress_ifindex;
	seen.protocol = bpf_ntohs(skb->protocol);
	seen.wire_len = skb->wire_len;
	seen.gso_segs = skb->gso_segs;
#pragma unroll
	for (int i = 0; i < 5; i++)
		seen.cb[i] = skb->cb[i];
	if (new_mark) {
		skb->mark = new_mark;
		skb->cb[3] = 7;
	}
	return verdict;
}
"""

# Puts a VLAN tag in, takes a TTL down, or changes nothing, as the program's variable says.
CHANGING = """
#include <linux/ip.h>
const volatile __u32 what = 0;
__u32 full; /* no room was left before the packet */

SEC("xdp") int change(struct xdp_md *ctx)
{
	void *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
	struct iphdr *ip = data + sizeof(struct ethhdr);

	if (what == 1) {
		if ((void *)(ip + 1) > end)
			return XDP_ABORTED;
		ip->ttl--;
		ip->check += bpf_htons(0x0100);
	} else if (what == 2) {
		struct { __u8 macs[12]; __be16 type, tci, inner; } *tagged;

		if (bpf_xdp_adjust_head(ctx, -4)) {
			full++;
			return XDP_ABORTED;
		}
		tagged = (void *)(long)ctx->data;
		if ((void *)(tagged + 1) > (void *)(long)ctx->data_end)
			return XDP_ABORTED;
		__builtin_memmove(tagged->macs, (void *)tagged + 4, 12);
		tagged->type = bpf_htons(ETH_P_8021Q);
		tagged->tci = bpf_htons(5);
	} else if (what == 3) {
		__u32 *meta;

		if (bpf_xdp_adjust_meta(ctx, -4))
			return XDP_ABORTED;
		meta = (void *)(long)ctx->data_meta;
		if ((void *)(meta + 1) > (void *)(long)ctx->data)
			return XDP_ABORTED;
		*meta = 0x04030201;
	} else if (what == 4) {
		if (bpf_xdp_adjust_tail(ctx, -2))
			return XDP_ABORTED;
	}
	return XDP_TX;
}
"""

MAPS = """
struct value { __u64 packets, bytes; };
struct {
	__uint(type, BPF_MAP_TYPE_HASH); __uint(max_entries, 16);
	__type(key, __u32); __type(value, struct value);
} flows SEC(".maps");
struct {
	__uint(type, BPF_MAP_TYPE_LRU_PERCPU_HASH); __uint(max_entries, 16);
	__type(key, __u16); __type(value, __u64);
} ports SEC(".maps");
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY); __uint(max_entries, 4);
	__type(key, __u32); __type(value, __u64);
} hits SEC(".maps");
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY); __uint(max_entries, 1000);
	__type(key, __u32); __type(value, __u32);
} slots SEC(".maps");
struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF); __uint(max_entries, 4096);
} events SEC(".maps");
__u64 total;
int table[3] = {1, 2, 3};
int untouched = 5;
static const struct value none;

SEC("xdp") int count(struct xdp_md *ctx)
{
	__u32 key = 3, slot = 999, one = 1;
	__u16 port = 53;
	__u64 first = 1, *hit;
	struct value *found;

	total++;
	table[1] = 20;
	found = bpf_map_lookup_elem(&flows, &key);
	if (!found) {
		bpf_map_update_elem(&flows, &key, &none, 0);
		found = bpf_map_lookup_elem(&flows, &key);
	}
	if (found) {
		found->packets++;
		found->bytes += ctx->data_end - ctx->data;
	}
	if (bpf_map_delete_elem(&ports, &port))
		bpf_map_update_elem(&ports, &port, &first, 0);
	hit = bpf_map_lookup_elem(&hits, &one);
	if (hit)
		*hit += 1;
	bpf_map_update_elem(&slots, &slot, &key, 0);
	bpf_ringbuf_output(&events, &key, sizeof(key), 0);
	return XDP_DROP;
}
"""

REDIRECT = """
struct {
	__uint(type, BPF_MAP_TYPE_DEVMAP); __uint(max_entries, 4);
	__type(key, __u32); __type(value, __u32);
} ports SEC(".maps");
SEC("xdp") int by_map(struct xdp_md *ctx) { return bpf_redirect_map(&ports, 1, 0); }
SEC("xdp/plain") int plain(struct xdp_md *ctx) { return bpf_redirect(12345, 0); }
SEC("xdp/aborts") int aborts(struct xdp_md *ctx) { return XDP_ABORTED; }
SEC("xdp/devmap") int target(struct xdp_md *ctx) { return XDP_PASS; }
SEC("tc") int away(struct __sk_buff *skb) { return bpf_redirect(12345, 0); }
"""


def built(source: str, debug: bool = True) -> bytes:
    """The object of one of these."""
    return compile_c(_HEAD + source, name="made", debug=debug)
