/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* reason: maybe-null */
/* words: may be NULL */
#include "reject.h"

noinline int twice(int *number)
{
	return *number * 2; /* HERE */
}

SEC("xdp")
int prog(struct xdp_md *ctx)
{
	int number = ctx->rx_queue_index;

	return twice(&number);
}
