/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* reason: packet-end-arithmetic */
/* words: data_end */
#include "reject.h"

SEC("xdp")
int prog(struct xdp_md *ctx)
{
	void *data = DATA(ctx), *end = DATA_END(ctx);

	asm volatile("%0 += -14" : "+r"(end)); /* HERE */
	return data > end ? XDP_PASS : XDP_DROP;
}
