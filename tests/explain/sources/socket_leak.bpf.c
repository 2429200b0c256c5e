/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* reason: reference-leak */
/* words: bpf_sk_release */
/* hook: tc */
#include "reject.h"

SEC("tc")
int prog(struct __sk_buff *ctx)
{
	struct bpf_sock_tuple tuple = {};
	struct bpf_sock *sk = bpf_sk_lookup_tcp(ctx, &tuple, sizeof(tuple.ipv4), -1, 0); /* HERE */

	if (!sk)
		return TC_ACT_OK;
	if (sk->state == 10)
		return TC_ACT_SHOT;
	bpf_sk_release(sk);
	return TC_ACT_OK;
}
