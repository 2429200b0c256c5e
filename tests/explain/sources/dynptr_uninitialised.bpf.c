/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* reason: dynptr-misuse */
/* words: dynptr */
#include "reject.h"

SEC("xdp")
int prog(struct xdp_md *ctx)
{
	struct bpf_dynptr pointer;
	char bytes[4];

	bpf_dynptr_read(bytes, 4, &pointer, 0, 0); /* HERE */
	return XDP_PASS;
}
