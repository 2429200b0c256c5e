/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* reason: dynptr-overwritten */
/* words: dynptr */
#include "reject.h"

RING(ring);

SEC("xdp")
int prog(struct xdp_md *ctx)
{
	struct bpf_dynptr pointer;

	bpf_ringbuf_reserve_dynptr(&ring, 8, 0, &pointer);
	*(volatile __u64 *)&pointer = 0; /* HERE */
	bpf_ringbuf_discard_dynptr(&pointer, 0);
	return XDP_PASS;
}
