/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* reason: packet-variable-offset */
/* words: only known at run time */
#include "reject.h"

SEC("xdp")
int prog(struct xdp_md *ctx)
{
	struct ethhdr *eth = DATA(ctx);
	struct iphdr *ip = (void *)(eth + 1);
	__u16 *port;

	if ((void *)(ip + 1) > DATA_END(ctx))
		return XDP_PASS;
	port = (void *)ip + ip->ihl * 4;
	if (*port == 1) /* HERE */
		return XDP_DROP;
	return XDP_PASS;
}
