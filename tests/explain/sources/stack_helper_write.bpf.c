/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* reason: stack-outside */
/* words: stack */
/* hook: tc */
#include "reject.h"

SEC("tc")
int prog(struct __sk_buff *ctx)
{
	char bytes[8];

	bpf_skb_load_bytes(ctx, 0, bytes, 16); /* HERE */
	return bytes[0];
}
