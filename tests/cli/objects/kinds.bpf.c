/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* Variables and maps of many kinds, written by the program for every UDP packet that arrives. */
#include "net.h"

enum color {
	RED,
	GREEN = 5,
	BLUE = -1,
};

struct inner {
	__u16 a;
	__u8 b[2];
};

union both {
	__u32 word;
	__u8 bytes[4];
};

struct outer {
	struct inner in;
	union both both;
	__u32 low : 3, high : 5, rest : 24;
	__s32 below : 4;
	enum color color;
	bool on;
	char name[8];
};

__u64 packets;
__s32 negative = -5;
bool seen;
enum color color = GREEN;
__u32 numbers[4];
__u32 grid[2][2] = { { 1, 2 }, { 3, 4 } };
struct outer outer = {
	.in = { 1, { 2, 3 } }, .both = { 0x04030201 }, .low = 5, .high = 17, .rest = 70000, .below = -3,
	.color = BLUE, .on = true, .name = "netbpf",
};
const volatile __u16 port = 53;

struct flow {
	__be32 saddr, daddr;
	__be16 sport, dport;
};

struct counter {
	__u64 packets, bytes;
};

struct prefix {
	__u32 prefixlen;
	__u8 address[4];
};

#define MAP(name, kind, entries, key_type, value_type, flags) \
	struct {                                              \
		__uint(type, BPF_MAP_TYPE_##kind);            \
		__uint(max_entries, entries);                 \
		__uint(map_flags, flags);                     \
		__type(key, key_type);                        \
		__type(value, value_type);                    \
	} name SEC(".maps")

MAP(flows, HASH, 64, struct flow, struct counter, 0);
MAP(per_cpu, PERCPU_ARRAY, 2, __u32, struct counter, 0);
MAP(per_port, PERCPU_HASH, 16, __u16, __u64, 0);
MAP(prefixes, LPM_TRIE, 16, struct prefix, enum color, BPF_F_NO_PREALLOC);
MAP(large, HASH, 5000, __u32, __u32, 0);
MAP(states, ARRAY, 4, __u32, struct outer, 0);

struct {
	__uint(type, BPF_MAP_TYPE_QUEUE);
	__uint(max_entries, 8);
	__type(value, __u32);
} waiting SEC(".maps");

SEC("xdp")
int kinds(struct xdp_md *ctx)
{
	struct headers *h = headers_of(ctx);
	struct prefix net = { 8, { 10, 0, 0, 0 } };
	struct counter one = { 1, ctx->data_end - ctx->data }, *found;
	struct flow flow = {};
	enum color green = GREEN;
	__u64 first = 1, *count;
	__u32 index = 1;
	__u16 dest;

	if (!h || h->eth.h_proto != bpf_htons(ETH_P_IP))
		return XDP_PASS;
	add(packets, 1);
	seen = port == 53;
	color = RED;
	add(negative, -1);
	add(numbers[2], 2);

	flow.saddr = h->ip.saddr;
	flow.daddr = h->ip.daddr;
	flow.sport = h->udp.source;
	flow.dport = h->udp.dest;
	found = bpf_map_lookup_elem(&flows, &flow);
	if (found) {
		add(found->packets, 1);
		add(found->bytes, one.bytes);
	} else {
		bpf_map_update_elem(&flows, &flow, &one, BPF_ANY);
	}
	found = bpf_map_lookup_elem(&per_cpu, &index);
	if (found) {
		found->packets++;
		found->bytes += one.bytes;
	}
	dest = bpf_ntohs(h->udp.dest);
	count = bpf_map_lookup_elem(&per_port, &dest);
	if (count)
		(*count)++;
	else
		bpf_map_update_elem(&per_port, &dest, &first, BPF_ANY);
	bpf_map_update_elem(&prefixes, &net, &green, BPF_ANY);
	bpf_map_push_elem(&waiting, &index, 0);
	bpf_map_update_elem(&states, &index, &outer, BPF_ANY);
	for (int i = 0; i < 30; i++) {
		__u32 number = i;

		bpf_map_update_elem(&large, &number, &number, BPF_ANY);
	}
	return XDP_PASS;
}
