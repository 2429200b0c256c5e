/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* Functions whose address is taken: bpf_loop, bpf_for_each_map_elem, nested, static and global. */
#include "check.h"

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 4);
	__type(key, __u32);
	__type(value, __u64);
} numbers SEC(".maps");

struct sum {
	__u64 total;
	int rounds;
};

static noinline __u64 twice(__u64 x)
{
	return opaque(x) * 2;
}

static int inner(__u32 index, void *context)
{
	struct sum *sum = context;

	sum->total += twice(1);
	return 0;
}

static int add(__u32 index, void *context)
{
	struct sum *sum = context;

	sum->rounds++;
	bpf_loop(3, inner, context, 0);
	return 0;
}

static __u64 visit(void *map, __u32 *key, __u64 *value, struct sum *sum)
{
	sum->total += *value + *key;
	return 0;
}

SEC("xdp")
int loop(struct xdp_md *ctx)
{
	struct sum sum = {};

	bpf_loop(5, add, &sum, 0);
	return sum.total == 30 && sum.rounds == 5 ? GOOD : BAD;
}

SEC("tc")
int each(struct __sk_buff *ctx)
{
	struct sum sum = {};

	bpf_for_each_map_elem(&numbers, visit, &sum, 0);
	return sum.total == 6 ? GOOD : BAD;
}

SEC("tc")
int both(struct __sk_buff *ctx)
{
	struct sum sum = {};

	bpf_for_each_map_elem(&numbers, visit, &sum, 0);
	sum.total += twice(1);
	bpf_loop(1, add, &sum, 0);
	return sum.total == 14 ? GOOD : BAD;
}
