/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* reason: loop-infinite */
/* words: never ends */
#include "reject.h"

SEC("xdp")
int prog(struct xdp_md *ctx)
{
	asm volatile("again: if r1 == 0 goto again2; goto again; again2:"); /* HERE */
	return XDP_PASS;
}
