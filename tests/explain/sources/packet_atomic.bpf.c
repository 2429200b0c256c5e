/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* reason: atomic-memory */
/* words: atomic */
#include "reject.h"

SEC("xdp")
int prog(struct xdp_md *ctx)
{
	__u64 *data = DATA(ctx);

	if ((void *)(data + 1) > DATA_END(ctx))
		return XDP_PASS;
	__sync_fetch_and_add(data, 1); /* HERE */
	return XDP_PASS;
}
