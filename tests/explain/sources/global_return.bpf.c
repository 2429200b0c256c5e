/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* reason: function-return-type */
/* words: address */
#include "reject.h"

noinline void *address(struct xdp_md *ctx)
{
	return ctx ? (void *)opaque(1) : 0;
}

SEC("xdp")
int prog(struct xdp_md *ctx)
{
	return address(ctx) ? XDP_PASS : XDP_DROP; /* HERE */
}
