/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* reason: tail-call-stack */
/* words: 256 */
#include "reject.h"

struct {
	__uint(type, BPF_MAP_TYPE_PROG_ARRAY);
	__uint(max_entries, 1);
	__uint(key_size, 4);
	__uint(value_size, 4);
} jumps SEC(".maps");

static noinline int jump(struct xdp_md *ctx)
{
	bpf_tail_call(ctx, &jumps, 0);
	return 1;
}

SEC("xdp")
int prog(struct xdp_md *ctx)
{
	volatile char bytes[300];

	for (int i = 0; i < 300; i++)
		bytes[i] = i;
	return jump(ctx) + bytes[ctx->rx_queue_index & 7];
}
