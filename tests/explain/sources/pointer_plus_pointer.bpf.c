/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* reason: pointer-plus-pointer */
/* words: two pointers */
#include "reject.h"

SEC("xdp")
int prog(struct xdp_md *ctx)
{
	void *data = DATA(ctx);

	asm volatile("%0 += %1" : "+r"(data) : "r"(ctx)); /* HERE */
	return data > DATA_END(ctx);
}
