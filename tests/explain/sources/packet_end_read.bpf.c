/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* reason: packet-end-access */
/* words: data_end */
#include "reject.h"

SEC("xdp")
int prog(struct xdp_md *ctx)
{
	__u8 *end = DATA_END(ctx);

	return *end; /* HERE */
}
