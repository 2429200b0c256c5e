/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* reason: stack-spill */
/* words: pointer */
#include "reject.h"

SEC("xdp")
int prog(struct xdp_md *ctx)
{
	asm volatile("*(u32 *)(r10 - 8) = r1; r1 = *(u64 *)(r10 - 8)" ::: "r1", "memory"); /* HERE */
	return XDP_PASS;
}
