/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* reason: packet-off-by-one */
/* words: one byte, data_end */
#include "reject.h"

SEC("xdp")
int prog(struct xdp_md *ctx)
{
	__u8 *data = DATA(ctx);

	if (data + 13 > (__u8 *)DATA_END(ctx))
		return XDP_PASS;
	return data[13] == 8 ? XDP_DROP : XDP_PASS; /* HERE */
}
