/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* reason: constant-expected */
/* words: constant */
#include "reject.h"

RING(ring);

SEC("xdp")
int prog(struct xdp_md *ctx)
{
	void *event = bpf_ringbuf_reserve(&ring, opaque(ctx->rx_queue_index), 0); /* HERE */

	if (event)
		bpf_ringbuf_discard(event, 0);
	return XDP_PASS;
}
