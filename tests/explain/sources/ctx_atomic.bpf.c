/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* reason: atomic-memory */
/* words: atomic, context */
/* hook: tc */
#include "reject.h"

SEC("tc")
int prog(struct __sk_buff *ctx)
{
	__sync_fetch_and_add(&ctx->mark, 1); /* HERE */
	return TC_ACT_OK;
}
