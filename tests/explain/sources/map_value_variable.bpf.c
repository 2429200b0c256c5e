/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* reason: map-value-index */
/* words: index */
#include "reject.h"

VALUES(values);

SEC("xdp")
int prog(struct xdp_md *ctx)
{
	__u32 key = 0, index = ctx->rx_queue_index;
	struct value *value = bpf_map_lookup_elem(&values, &key);

	if (!value)
		return XDP_PASS;
	return value->bytes[index]; /* HERE */
}
