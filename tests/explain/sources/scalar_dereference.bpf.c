/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* reason: scalar-dereference */
/* words: number */
#include "reject.h"

SEC("xdp")
int prog(struct xdp_md *ctx)
{
	__u64 address = ctx->rx_queue_index;

	return *(volatile __u32 *)address; /* HERE */
}
