/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* reason: callback-missing */
/* words: function */
#include "reject.h"

SEC("xdp")
int prog(struct xdp_md *ctx)
{
	bpf_loop(4, (void *)opaque(7), 0, 0); /* HERE */
	return XDP_PASS;
}
