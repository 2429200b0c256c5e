/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* reason: map-value-outside */
/* words: 16 bytes */
#include "reject.h"

VALUES(values);

SEC("xdp")
int prog(struct xdp_md *ctx)
{
	__u32 key = 0;
	struct value *value = bpf_map_lookup_elem(&values, &key);

	if (!value)
		return XDP_PASS;
	return *(__u8 *)(value + 1); /* HERE */
}
