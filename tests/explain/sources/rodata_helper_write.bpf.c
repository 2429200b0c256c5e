/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* reason: read-only-map */
/* words: read-only */
#include "reject.h"

const volatile char name[16] = "x";

SEC("xdp")
int prog(struct xdp_md *ctx)
{
	bpf_get_current_comm((void *)name, sizeof(name)); /* HERE */
	return XDP_PASS;
}
