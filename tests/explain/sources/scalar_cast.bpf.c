/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* reason: pointer-arithmetic */
/* words: shifts */
#include "reject.h"

SEC("xdp")
int prog(struct xdp_md *ctx)
{
	__u8 *data = (void *)(long)opaque((__u32)(long)opaque((__u64)DATA(ctx))); /* HERE */

	return *data;
}
