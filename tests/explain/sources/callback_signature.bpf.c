/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* reason: register-uninitialised */
/* words: never got a value */
#include "reject.h"

static int step(__u32 index, void *ctx, __u32 third)
{
	return opaque(third) & 1; /* HERE */
}

SEC("xdp")
int prog(struct xdp_md *ctx)
{
	bpf_loop(4, step, 0, 0);
	return XDP_PASS;
}
