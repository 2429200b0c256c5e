/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* reason: ctx-read-only */
/* words: ctx->ingress_ifindex, cannot be written */
#include "reject.h"

SEC("xdp")
int prog(struct xdp_md *ctx)
{
	ctx->ingress_ifindex = 1; /* HERE */
	return XDP_PASS;
}
