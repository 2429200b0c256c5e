/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* reason: types-missing */
/* words: BTF */
/* flags: -g0 */
#include "reject.h"

static int step(__u32 index, void *ctx)
{
	return 0;
}

SEC("xdp")
int prog(struct xdp_md *ctx)
{
	bpf_loop(4, step, 0, 0);
	return XDP_PASS;
}
