/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* reason: timer-misuse */
/* words: bpf_timer */
#include "reject.h"

VALUES(values);

SEC("xdp")
int prog(struct xdp_md *ctx)
{
	__u32 key = 0;
	void *one = bpf_map_lookup_elem(&values, &key);

	if (!one)
		return XDP_PASS;
	bpf_timer_init(one, &values, 0); /* HERE */
	return XDP_DROP;
}
