/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* reason: map-value-null */
/* words: NULL */
#include "reject.h"

VALUES(values);

SEC("xdp")
int prog(struct xdp_md *ctx)
{
	__u32 key = ctx->rx_queue_index;
	void *value = bpf_map_lookup_elem(&values, &key);

	asm volatile("%0 += 4" : "+r"(value)); /* HERE */
	return value ? XDP_PASS : XDP_DROP;
}
