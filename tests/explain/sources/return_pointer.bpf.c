/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* reason: pointer-leak */
/* words: address */
/* caps: bpf, net_admin */
#include "reject.h"

SEC("xdp")
int prog(struct xdp_md *ctx)
{
	return (__u64)opaque((__u64)ctx); /* HERE */
}
