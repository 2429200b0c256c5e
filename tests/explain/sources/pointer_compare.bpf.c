/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* reason: pointer-compare */
/* words: compare */
/* caps: bpf, net_admin */
#include "reject.h"

SEC("xdp")
int prog(struct xdp_md *ctx)
{
	void *data = DATA(ctx);

	asm volatile("if %0 > 4096 goto +0" : : "r"(data)); /* HERE */
	return XDP_PASS;
}
