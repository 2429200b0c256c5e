/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* reason: function-argument-type */
/* words: argument */
#include "reject.h"

noinline int first(void *bytes)
{
	return bytes ? 1 : 0;
}

SEC("xdp")
int prog(struct xdp_md *ctx)
{
	return first(ctx); /* HERE */
}
