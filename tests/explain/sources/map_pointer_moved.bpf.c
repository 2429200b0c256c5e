/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* reason: pointer-kind */
/* words: the map values */
#include "reject.h"

VALUES(values);

SEC("xdp")
int prog(struct xdp_md *ctx)
{
	void *map = &values;

	asm volatile("%0 += 8" : "+r"(map)); /* HERE */
	return map ? XDP_PASS : XDP_DROP;
}
