/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* reason: packet-unbounded-offset */
/* words: unbounded */
#include "reject.h"

SEC("xdp")
int prog(struct xdp_md *ctx)
{
	__u8 *data = DATA(ctx);
	__s64 offset;

	if (data + 8 > (__u8 *)DATA_END(ctx))
		return XDP_PASS;
	offset = *(__s64 *)data;
	data += offset; /* HERE */
	if (data + 1 > (__u8 *)DATA_END(ctx))
		return XDP_PASS;
	return *data;
}
