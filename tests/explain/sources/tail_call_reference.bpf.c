/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* reason: tail-call-reference */
/* words: tail call */
/* hook: tc */
#include "reject.h"

struct {
	__uint(type, BPF_MAP_TYPE_PROG_ARRAY);
	__uint(max_entries, 1);
	__uint(key_size, 4);
	__uint(value_size, 4);
} jumps SEC(".maps");

SEC("tc")
int prog(struct __sk_buff *ctx)
{
	struct bpf_sock_tuple tuple = {};
	struct bpf_sock *sk = bpf_sk_lookup_tcp(ctx, &tuple, sizeof(tuple.ipv4), -1, 0);

	if (!sk)
		return TC_ACT_OK;
	bpf_tail_call(ctx, &jumps, 0); /* HERE */
	bpf_sk_release(sk);
	return TC_ACT_OK;
}
