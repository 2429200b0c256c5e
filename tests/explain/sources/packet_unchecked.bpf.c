/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* reason: packet-unchecked */
/* words: without comparing, data_end */
#include "reject.h"

SEC("xdp")
int prog(struct xdp_md *ctx)
{
	struct ethhdr *eth = DATA(ctx);

	if (eth->h_proto == 8) /* HERE */
		return XDP_DROP;
	return XDP_PASS;
}
