/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* reason: ctx-access */
/* words: context */
#include "reject.h"

SEC("xdp")
int prog(struct xdp_md *ctx)
{
	return *(volatile __u8 *)&ctx->data; /* HERE */
}
