/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* reason: mixed-pointers */
/* words: two kinds */
#include "reject.h"

VALUES(values);

SEC("xdp")
int prog(struct xdp_md *ctx)
{
	__u32 key = 0;
	void *pointer = bpf_map_lookup_elem(&values, &key);

	if (!pointer)
		return XDP_PASS;
	if (opaque(ctx->rx_queue_index) & 1)
		pointer = ctx;
	return *(volatile __u32 *)opaque((__u64)pointer); /* HERE */
}
