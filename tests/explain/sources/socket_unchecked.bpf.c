/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* reason: maybe-null */
/* words: bpf_sk_lookup_tcp, NULL */
/* hook: tc */
#include "reject.h"

SEC("tc")
int prog(struct __sk_buff *ctx)
{
	struct bpf_sock_tuple tuple = {};
	struct bpf_sock *sk = bpf_sk_lookup_tcp(ctx, &tuple, sizeof(tuple.ipv4), -1, 0);
	int state = sk->state; /* HERE */

	bpf_sk_release(sk);
	return state;
}
