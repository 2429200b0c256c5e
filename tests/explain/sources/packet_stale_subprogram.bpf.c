/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* reason: packet-pointer-stale */
/* words: widen */
#include "reject.h"

static noinline int widen(struct xdp_md *ctx)
{
	return bpf_xdp_adjust_head(ctx, -14);
}

SEC("xdp")
int prog(struct xdp_md *ctx)
{
	struct ethhdr *eth = DATA(ctx);

	if ((void *)(eth + 1) > DATA_END(ctx))
		return XDP_PASS;
	if (widen(ctx))
		return XDP_PASS;
	return eth->h_source[0]; /* HERE */
}
