/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* reason: stack-variable */
/* words: stack, index */
#include "reject.h"

SEC("xdp")
int prog(struct xdp_md *ctx)
{
	volatile char bytes[8] = "abcdefg";

	return bytes[ctx->rx_queue_index]; /* HERE */
}
