/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* reason: reference-leak */
/* words: bpf_ringbuf_reserve */
#include "reject.h"

RING(ring);
extern void bpf_throw(__u64 cookie) __attribute__((section(".ksyms")));

SEC("xdp")
int prog(struct xdp_md *ctx)
{
	void *event = bpf_ringbuf_reserve(&ring, 4, 0); /* HERE */

	if (!event)
		return XDP_PASS;
	bpf_throw(1);
	return XDP_DROP;
}
