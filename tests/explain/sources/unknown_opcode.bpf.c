/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* reason: bad-instruction */
/* words: instruction */
#include "reject.h"

SEC("xdp") __attribute__((naked))
int prog(struct xdp_md *ctx)
{
	asm volatile(".8byte 0xff; r0 = 0; exit");
}
