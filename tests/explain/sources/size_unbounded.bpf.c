/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* reason: size-unbounded */
/* words: upper bound */
#include "reject.h"

SEC("xdp")
int prog(struct xdp_md *ctx)
{
	char bytes[16] = {};
	__u64 size = opaque(ctx->rx_queue_index) << 8;

	size = opaque(size) + bpf_ktime_get_ns();
	bpf_trace_printk(bytes, (__u32)opaque(size) | 1); /* HERE */
	return XDP_PASS;
}
