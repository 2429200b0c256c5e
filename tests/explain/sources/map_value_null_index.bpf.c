/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* reason: map-value-null */
/* words: NULL */
#include "reject.h"

VALUES(values);

SEC("xdp")
int prog(struct xdp_md *ctx)
{
	__u32 key = ctx->rx_queue_index;
	struct value *value = bpf_map_lookup_elem(&values, &key);

	return value->bytes[key & 3]; /* HERE */
}
