/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* reason: pointer-arithmetic */
/* words: shift */
#include "reject.h"

SEC("xdp")
int prog(struct xdp_md *ctx)
{
	__u64 data = (__u64)DATA(ctx);

	return opaque(data << 3) > 7; /* HERE */
}
