/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* reason: packet-pointer-stale */
/* words: bpf_xdp_adjust_head */
#include "reject.h"

SEC("xdp")
int prog(struct xdp_md *ctx)
{
	struct ethhdr *eth = DATA(ctx);

	if ((void *)(eth + 1) > DATA_END(ctx))
		return XDP_PASS;
	if (bpf_xdp_adjust_head(ctx, -14))
		return XDP_PASS;
	if (eth->h_proto == 8) /* HERE */
		return XDP_DROP;
	return XDP_PASS;
}
