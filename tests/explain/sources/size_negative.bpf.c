/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* reason: size-negative */
/* words: negative */
#include "reject.h"

RING(ring);

SEC("xdp")
int prog(struct xdp_md *ctx)
{
	char bytes[16] = {};
	__s64 size = (__s32)opaque(ctx->rx_queue_index);

	if (size > 16)
		return XDP_PASS;
	bpf_ringbuf_output(&ring, bytes, size, 0); /* HERE */
	return XDP_PASS;
}
