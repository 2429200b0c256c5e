/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* A member of a chain: adds WEIGHT for each packet, and gives those to port STOP (0: all) its verdict. */
#include "net.h"

#ifndef WEIGHT
#define WEIGHT 1
#endif
#ifndef STOP
#define STOP 1
#endif
#ifndef XDP_VERDICT
#define XDP_VERDICT XDP_DROP
#endif
#ifndef TC_VERDICT
#define TC_VERDICT TC_ACT_SHOT
#endif

__u64 seen;

#define stops(ctx)                                                                               \
	({                                                                                       \
		struct headers *h = headers_of(ctx);                                             \
		add(seen, WEIGHT);                                                               \
		!STOP || (h && h->ip.protocol == IPPROTO_UDP && h->udp.dest == bpf_htons(STOP)); \
	})

SEC("xdp")
int xdp_member(struct xdp_md *ctx)
{
	return stops(ctx) ? XDP_VERDICT : XDP_PASS;
}

SEC("tc")
int tc_member(struct __sk_buff *ctx)
{
	return stops(ctx) ? TC_VERDICT : TC_ACT_PIPE;
}
