/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* reason: packet-pointer-stale */
/* words: bpf_xdp_adjust_meta */
#include "reject.h"

SEC("xdp")
int prog(struct xdp_md *ctx)
{
	struct ethhdr *eth = DATA(ctx);

	if ((void *)(eth + 1) > DATA_END(ctx))
		return XDP_PASS;
	if (bpf_xdp_adjust_meta(ctx, -4))
		return XDP_PASS;
	return eth->h_source[0]; /* HERE */
}
