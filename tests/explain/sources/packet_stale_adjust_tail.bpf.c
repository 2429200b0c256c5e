/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* reason: packet-pointer-stale */
/* words: bpf_xdp_adjust_tail */
#include "reject.h"

SEC("xdp")
int prog(struct xdp_md *ctx)
{
	struct ethhdr *eth = DATA(ctx);

	if ((void *)(eth + 1) > DATA_END(ctx))
		return XDP_PASS;
	bpf_xdp_adjust_tail(ctx, -4);
	eth->h_proto = 8; /* HERE */
	return XDP_PASS;
}
