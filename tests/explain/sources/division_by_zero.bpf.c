/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* reason: division-by-zero */
/* words: 0 */
#include "reject.h"

SEC("xdp")
int prog(struct xdp_md *ctx)
{
	__u64 n = ctx->rx_queue_index;

	asm volatile("%0 /= 0" : "+r"(n)); /* HERE */
	return n;
}
