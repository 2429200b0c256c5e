/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* reason: no-return-value */
/* words: return value */
#include "reject.h"

SEC("xdp")
int prog(struct xdp_md *ctx)
{
	asm volatile("if r1 == 0 goto +1; exit"); /* HERE */
	return XDP_PASS;
}
