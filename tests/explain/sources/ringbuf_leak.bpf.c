/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* reason: reference-leak */
/* words: bpf_ringbuf_reserve, bpf_ringbuf_submit */
#include "reject.h"

RING(ring);

SEC("xdp")
int prog(struct xdp_md *ctx)
{
	__u32 *event = bpf_ringbuf_reserve(&ring, 4, 0); /* HERE */

	if (!event)
		return XDP_PASS;
	*event = 1;
	return XDP_DROP;
}
