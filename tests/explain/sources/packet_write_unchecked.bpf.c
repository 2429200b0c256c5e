/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* reason: packet-unchecked */
/* words: writes, data_end */
/* hook: tc */
#include "reject.h"

SEC("tc")
int prog(struct __sk_buff *ctx)
{
	struct ethhdr *eth = DATA(ctx);

	eth->h_dest[0] = 1; /* HERE */
	return TC_ACT_OK;
}
