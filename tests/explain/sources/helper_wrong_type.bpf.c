/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* reason: helper-wrong-type */
/* words: bpf_skb_load_bytes, XDP */
#include "reject.h"

SEC("xdp")
int prog(struct xdp_md *ctx)
{
	char byte = 0;

	bpf_skb_load_bytes((void *)ctx, 0, &byte, 1); /* HERE */
	return byte;
}
