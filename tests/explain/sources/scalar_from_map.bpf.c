/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* reason: scalar-dereference */
/* words: number, map */
#include "reject.h"

VALUES(values);

SEC("xdp")
int prog(struct xdp_md *ctx)
{
	__u32 key = 0;
	__u32 **value = bpf_map_lookup_elem(&values, &key);

	if (!value)
		return XDP_PASS;
	return **value; /* HERE */
}
