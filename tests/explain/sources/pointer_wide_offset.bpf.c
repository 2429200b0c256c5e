/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* reason: pointer-offset */
/* words: offset */
#include "reject.h"

VALUES(values);

SEC("xdp")
int prog(struct xdp_md *ctx)
{
	__u32 key = 0;
	char *value = bpf_map_lookup_elem(&values, &key);

	if (!value)
		return XDP_PASS;
	asm volatile("%0 += 0x7fffffff" : "+r"(value)); /* HERE */
	return *value;
}
