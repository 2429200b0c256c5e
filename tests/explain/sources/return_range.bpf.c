/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* reason: return-range */
/* words: returns */
#include "reject.h"

static noinline int step(__u32 index, void *ctx)
{
	return 5; /* HERE */
}

SEC("xdp")
int prog(struct xdp_md *ctx)
{
	bpf_loop(4, step, 0, 0);
	return XDP_PASS;
}
