/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* reason: kfunc-not-allowed */
/* words: bpf_dynptr_from_skb, XDP */
#include "reject.h"

extern int bpf_dynptr_from_skb(struct __sk_buff *skb, __u64 flags, struct bpf_dynptr *pointer)
	__attribute__((section(".ksyms")));

SEC("xdp")
int prog(struct xdp_md *ctx)
{
	struct bpf_dynptr pointer;

	return bpf_dynptr_from_skb((void *)ctx, 0, &pointer); /* HERE */
}
