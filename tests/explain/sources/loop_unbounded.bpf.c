/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* reason: too-complex */
/* words: 1,000,000 */
#include "reject.h"

SEC("xdp")
int prog(struct xdp_md *ctx)
{
	__u64 sum = 0, n = opaque(ctx->rx_queue_index);

	for (__u64 i = 0; i < n; i++) /* HERE */
		sum += opaque(i);
	return sum & 1;
}
