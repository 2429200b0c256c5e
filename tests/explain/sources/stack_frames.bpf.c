/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* reason: stack-combined */
/* words: 512 */
#include "reject.h"

static noinline int inner(__u64 n)
{
	volatile char bytes[300];

	for (int i = 0; i < 300; i++)
		bytes[i] = n;
	return bytes[n & 7];
}

SEC("xdp")
int prog(struct xdp_md *ctx)
{
	volatile char bytes[300];

	for (int i = 0; i < 300; i++)
		bytes[i] = i;
	return inner(bytes[ctx->rx_queue_index & 7]);
}
