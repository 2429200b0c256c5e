/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* Programs put into prog arrays by static initialisers: a target with a prog array of its own, and a missing one. */
#include "check.h"

int last(struct xdp_md *ctx);
int next(struct xdp_md *ctx);

struct {
	__uint(type, BPF_MAP_TYPE_PROG_ARRAY);
	__uint(max_entries, 4);
	__uint(key_size, sizeof(__u32));
	__array(values, int(void *));
} jumps SEC(".maps") = {
	.values = { [1] = (void *)&next },
};

struct {
	__uint(type, BPF_MAP_TYPE_PROG_ARRAY);
	__uint(max_entries, 2);
	__uint(key_size, sizeof(__u32));
	__array(values, int(void *));
} more_jumps SEC(".maps") = {
	.values = { [0] = (void *)&last },
};

int steps;

SEC("xdp")
int last(struct xdp_md *ctx)
{
	return ++steps == 3 || steps == 1 ? GOOD : BAD;
}

SEC("xdp")
int next(struct xdp_md *ctx)
{
	steps += steps ? 1 : 2;
	bpf_tail_call(ctx, &more_jumps, 0);
	return BAD;
}

SEC("xdp")
int entry(struct xdp_md *ctx)
{
	steps++;
	bpf_tail_call(ctx, &jumps, 3);
	bpf_tail_call(ctx, &jumps, 1);
	return BAD;
}
