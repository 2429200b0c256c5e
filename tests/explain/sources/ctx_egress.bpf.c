/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* reason: ctx-egress */
/* words: egress_ifindex, devmap */
#include "reject.h"

SEC("xdp")
int prog(struct xdp_md *ctx)
{
	return ctx->egress_ifindex; /* HERE */
}
