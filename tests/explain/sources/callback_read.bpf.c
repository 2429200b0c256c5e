/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* reason: pointer-access */
/* words: a function */
#include "reject.h"

static int step(__u32 index, void *ctx)
{
	return 0;
}

SEC("xdp")
int prog(struct xdp_md *ctx)
{
	int (*volatile callback)(__u32, void *) = step;

	bpf_loop(1, step, 0, 0);
	return *(volatile int *)(void *)callback; /* HERE */
}
