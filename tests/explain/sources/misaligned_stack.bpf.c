/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* reason: misaligned */
/* words: aligned */
#include "reject.h"

SEC("xdp")
int prog(struct xdp_md *ctx)
{
	asm volatile("*(u64 *)(r10 - 12) = r1" ::: "memory"); /* HERE */
	return XDP_PASS;
}
