/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* reason: read-only-map */
/* words: read-only */
#include "reject.h"

const volatile __u32 limit = 5;

SEC("xdp")
int prog(struct xdp_md *ctx)
{
	*(volatile __u32 *)&limit = 7; /* HERE */
	return XDP_PASS;
}
