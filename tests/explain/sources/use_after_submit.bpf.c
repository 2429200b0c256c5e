/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* reason: used-after-release */
/* words: bpf_ringbuf_submit */
#include "reject.h"

RING(ring);

SEC("xdp")
int prog(struct xdp_md *ctx)
{
	__u32 *event = bpf_ringbuf_reserve(&ring, 4, 0);

	if (!event)
		return XDP_PASS;
	bpf_ringbuf_submit(event, 0);
	return *(volatile __u32 *)event; /* HERE */
}
