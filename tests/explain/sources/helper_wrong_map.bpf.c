/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* reason: helper-wrong-map */
/* words: bpf_redirect_map */
#include "reject.h"

VALUES(values);

SEC("xdp")
int prog(struct xdp_md *ctx)
{
	return bpf_redirect_map(&values, 0, 0); /* HERE */
}
