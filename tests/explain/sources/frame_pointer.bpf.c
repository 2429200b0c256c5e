/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* reason: frame-pointer */
/* words: r10 */
#include "reject.h"

SEC("xdp")
int prog(struct xdp_md *ctx)
{
	asm volatile("r10 = 0"); /* HERE */
	return XDP_PASS;
}
