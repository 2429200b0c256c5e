/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* reason: stack-uninitialised */
/* words: never written */
/* caps: bpf, net_admin */
#include "reject.h"

VALUES(values);

SEC("xdp")
int prog(struct xdp_md *ctx)
{
	__u32 key[2];

	asm volatile("" : : "r"(key));
	return bpf_map_lookup_elem(&values, key) ? XDP_PASS : XDP_DROP; /* HERE */
}
