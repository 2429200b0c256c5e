/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* reason: pointer-32bit */
/* words: 32 */
#include "reject.h"

SEC("xdp")
int prog(struct xdp_md *ctx)
{
	void *data = DATA(ctx);

	asm volatile("w2 = 1; w1 += w2; r0 = *(u32 *)(r1 + 0)" ::: "r0", "r1", "r2"); /* HERE */
	return data > DATA_END(ctx);
}
