/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* Sections as public objects name them, XDP and TC in one object; each program drops another UDP port. */
#include "net.h"

__u64 dropped;

#define DROP(port_number, drop, pass)                                                  \
	struct headers *h = headers_of(ctx);                                           \
	if (h && h->udp.dest == bpf_htons(port_number)) {                              \
		add(dropped, 1);                                                       \
		return drop;                                                           \
	}                                                                              \
	return pass

SEC("xdp_prog")
int first_xdp(struct xdp_md *ctx)
{
	DROP(1, XDP_DROP, XDP_PASS);
}

SEC("classifier/stats")
int first_tc(struct __sk_buff *ctx)
{
	DROP(2, TC_ACT_SHOT, TC_ACT_OK);
}

SEC("tc-ingress")
int second_tc(struct __sk_buff *ctx)
{
	DROP(3, TC_ACT_SHOT, TC_ACT_OK);
}

SEC("tc-egress")
int third_tc(struct __sk_buff *ctx)
{
	DROP(4, TC_ACT_SHOT, TC_ACT_OK);
}
