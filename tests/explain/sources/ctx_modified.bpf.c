/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* reason: ctx-modified */
/* words: moved */
#include "reject.h"

SEC("xdp")
int prog(struct xdp_md *ctx)
{
	__u64 index = opaque(ctx->rx_queue_index) & 3;

	return *(volatile __u32 *)((void *)ctx + index * 4); /* HERE */
}
