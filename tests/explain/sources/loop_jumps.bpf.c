/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* reason: too-many-jumps */
/* words: 8,192 */
#include "reject.h"

SEC("xdp")
int prog(struct xdp_md *ctx)
{
	__u64 sum = 0;

	for (int i = 0; i < 10000; i++) {
		if (opaque(ctx->rx_queue_index) > i) /* HERE */
			sum += 2;
	}
	return sum & 1;
}
