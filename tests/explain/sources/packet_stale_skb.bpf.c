/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* reason: packet-pointer-stale */
/* words: bpf_skb_store_bytes */
/* hook: tc */
#include "reject.h"

SEC("tc")
int prog(struct __sk_buff *ctx)
{
	struct ethhdr *eth = DATA(ctx);
	__u8 byte = 1;

	if ((void *)(eth + 1) > DATA_END(ctx))
		return TC_ACT_OK;
	bpf_skb_store_bytes(ctx, 0, &byte, 1, 0);
	return eth->h_source[0] == 1 ? TC_ACT_SHOT : TC_ACT_OK; /* HERE */
}
