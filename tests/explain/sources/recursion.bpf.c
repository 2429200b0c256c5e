/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* reason: recursion */
/* words: itself */
#include "reject.h"

static noinline int again(__u64 n)
{
	return n ? again(opaque(n) - 1) + opaque(2) : 1; /* HERE */
}

SEC("xdp")
int prog(struct xdp_md *ctx)
{
	return again(ctx->rx_queue_index);
}
