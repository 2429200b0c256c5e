/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* reason: release-not-acquired */
/* words: bpf_sk_release */
/* hook: tc */
#include "reject.h"

SEC("tc")
int prog(struct __sk_buff *ctx)
{
	struct bpf_sock *sk = ctx->sk;

	if (!sk)
		return TC_ACT_OK;
	sk = bpf_sk_fullsock(sk);
	if (!sk)
		return TC_ACT_OK;
	bpf_sk_release(sk); /* HERE */
	return TC_ACT_OK;
}
