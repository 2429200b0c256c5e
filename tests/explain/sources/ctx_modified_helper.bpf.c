/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* reason: ctx-modified */
/* words: moved */
#include "reject.h"

SEC("xdp")
int prog(struct xdp_md *ctx)
{
	return bpf_xdp_adjust_head((void *)&ctx->data_end, 0); /* HERE */
}
