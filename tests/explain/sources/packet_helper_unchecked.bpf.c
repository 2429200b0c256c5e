/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* reason: packet-unchecked */
/* words: data_end, bpf_csum_diff */
#include "reject.h"

SEC("xdp")
int prog(struct xdp_md *ctx)
{
	return bpf_csum_diff(0, 0, DATA(ctx), 4, 0); /* HERE */
}
