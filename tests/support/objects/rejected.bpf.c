/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* One program for each common reason of the verifier. */
#include "check.h"

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u64);
} table SEC(".maps");

SEC("xdp")
int no_verdict(struct xdp_md *ctx)
{
	int verdict;

	asm volatile("" : "=r"(verdict));
	return verdict;
}

SEC("xdp")
int packet(struct xdp_md *ctx)
{
	return *(volatile int *)(long)ctx->data;
}

SEC("xdp")
int null_pointer(struct xdp_md *ctx)
{
	__u32 key = 0;
	__u64 *value = bpf_map_lookup_elem(&table, &key);

	return *(volatile __u64 *)value;
}

static noinline int deep(int x)
{
	volatile char bytes[400];

	bytes[opaque(x) & 255] = 1;
	return bytes[0];
}

SEC("xdp")
int stack(struct xdp_md *ctx)
{
	volatile char bytes[400];

	bytes[ctx->rx_queue_index & 255] = 1;
	return deep(bytes[0]) + bytes[1];
}

SEC("xdp")
int forever(struct xdp_md *ctx)
{
	asm volatile("1: if %0 != 0 goto 1b" : : "r"(ctx));
	return XDP_PASS;
}

SEC("xdp")
int other_helper(struct xdp_md *ctx)
{
	return bpf_skb_vlan_pop((void *)ctx);
}
