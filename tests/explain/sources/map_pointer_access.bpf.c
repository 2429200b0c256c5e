/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* reason: map-pointer-access */
/* words: map */
#include "reject.h"

VALUES(values);

SEC("xdp")
int prog(struct xdp_md *ctx)
{
	*(volatile __u32 *)&values = 1; /* HERE */
	return XDP_PASS;
}
