/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* reason: helper-gpl */
/* words: bpf_probe_read_kernel, GPL */
#define LICENSE "Proprietary"
#include "reject.h"

SEC("xdp")
int prog(struct xdp_md *ctx)
{
	__u64 value = 0;

	bpf_probe_read_kernel(&value, 8, ctx); /* HERE */
	return value;
}
