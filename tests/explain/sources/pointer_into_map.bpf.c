/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* reason: pointer-leak */
/* words: address, map */
/* caps: bpf, net_admin */
#include "reject.h"

VALUES(values);

SEC("xdp")
int prog(struct xdp_md *ctx)
{
	__u32 key = ctx->rx_queue_index;
	__u64 *value = bpf_map_lookup_elem(&values, &key);

	if (!value)
		return XDP_PASS;
	*value = (__u64)ctx; /* HERE */
	return XDP_DROP;
}
