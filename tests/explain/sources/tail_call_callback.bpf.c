/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* reason: tail-call-callback */
/* words: callback */
#include "reject.h"

struct {
	__uint(type, BPF_MAP_TYPE_PROG_ARRAY);
	__uint(max_entries, 1);
	__uint(key_size, 4);
	__uint(value_size, 4);
} jumps SEC(".maps");

static int step(__u32 index, void *ctx)
{
	bpf_tail_call(*(void **)ctx, &jumps, 0); /* HERE */
	return 0;
}

SEC("xdp")
int prog(struct xdp_md *ctx)
{
	bpf_loop(4, step, &ctx, 0);
	return XDP_PASS;
}
