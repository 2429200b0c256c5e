/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* Drops every UDP packet, whatever `generation` it is; for replacing under traffic. */
#include "net.h"

const volatile __u32 generation;
__u64 dropped;

SEC("xdp")
int xdp_filter(struct xdp_md *ctx)
{
	struct headers *h = headers_of(ctx);

	if (h && h->ip.protocol == IPPROTO_UDP) {
		add(dropped, 1);
		return generation < 1000 ? XDP_DROP : XDP_PASS;
	}
	return XDP_PASS;
}

SEC("tc")
int tc_filter(struct __sk_buff *ctx)
{
	struct headers *h = headers_of(ctx);

	if (h && h->ip.protocol == IPPROTO_UDP) {
		add(dropped, 1);
		return generation < 1000 ? TC_ACT_SHOT : TC_ACT_OK;
	}
	return TC_ACT_OK;
}
