/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* reason: maybe-null */
/* words: bpf_ringbuf_reserve, NULL */
#include "reject.h"

RING(ring);

SEC("xdp")
int prog(struct xdp_md *ctx)
{
	__u32 *event = bpf_ringbuf_reserve(&ring, 4, 0);

	*event = 1; /* HERE */
	bpf_ringbuf_submit(event, 0);
	return XDP_PASS;
}
