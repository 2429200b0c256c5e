/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* reason: jump-outside */
/* words: outside */
#include "reject.h"

SEC("xdp") __attribute__((naked))
int prog(struct xdp_md *ctx)
{
	asm volatile("r0 = 1; goto +100; exit"); /* HERE */
}
