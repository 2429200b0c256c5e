/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* reason: unreachable */
/* words: never */
#include "reject.h"

SEC("xdp") __attribute__((naked))
int prog(struct xdp_md *ctx)
{
	asm volatile("r0 = 1; exit");
	asm volatile("r0 = 2; exit"); /* HERE */
}
