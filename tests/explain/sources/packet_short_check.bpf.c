/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* reason: packet-short-check */
/* words: 14 bytes, bytes 26 */
#include "reject.h"

SEC("xdp")
int prog(struct xdp_md *ctx)
{
	struct ethhdr *eth = DATA(ctx);
	struct iphdr *ip = (void *)(eth + 1);

	if ((void *)(eth + 1) > DATA_END(ctx))
		return XDP_PASS;
	if (ip->saddr == 1) /* HERE */
		return XDP_DROP;
	return XDP_PASS;
}
