/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* reason: reference-leak */
/* words: bpf_ringbuf_discard_dynptr */
#include "reject.h"

RING(ring);

SEC("xdp")
int prog(struct xdp_md *ctx)
{
	struct bpf_dynptr pointer;

	bpf_ringbuf_reserve_dynptr(&ring, 8, 0, &pointer); /* HERE */
	return XDP_PASS;
}
