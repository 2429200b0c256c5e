/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* reason: ctx-read-only */
/* words: ctx->len, TC */
/* hook: tc */
#include "reject.h"

SEC("tc")
int prog(struct __sk_buff *ctx)
{
	ctx->len = 5; /* HERE */
	return TC_ACT_OK;
}
