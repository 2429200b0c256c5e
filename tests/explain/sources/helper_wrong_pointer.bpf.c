/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* reason: helper-argument */
/* words: bpf_map_update_elem, third argument */
#include "reject.h"

VALUES(values);

SEC("xdp")
int prog(struct xdp_md *ctx)
{
	__u32 key = 0;

	bpf_map_update_elem(&values, &key, (void *)5, 0); /* HERE */
	return XDP_PASS;
}
