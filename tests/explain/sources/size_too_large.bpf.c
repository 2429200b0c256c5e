/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* reason: stack-outside */
/* words: stack */
#include "reject.h"

SEC("xdp")
int prog(struct xdp_md *ctx)
{
	char bytes[16] = {};
	__u32 size = opaque(ctx->rx_queue_index);

	if (size > 32 || size < 1)
		return XDP_PASS;
	bpf_trace_printk(bytes, size); /* HERE */
	return XDP_PASS;
}
