/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* reason: helper-argument */
/* words: bpf_map_lookup_elem, first argument */
#include "reject.h"

SEC("xdp")
int prog(struct xdp_md *ctx)
{
	__u32 key = 0;

	return bpf_map_lookup_elem(&key, &key) ? 1 : 2; /* HERE */
}
