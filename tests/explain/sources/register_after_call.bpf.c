/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* reason: register-clobbered */
/* words: r1, bpf_ktime_get_ns */
#include "reject.h"

SEC("xdp")
int prog(struct xdp_md *ctx)
{
	int value;

	bpf_ktime_get_ns();
	asm volatile("%0 = *(u32 *)(r1 + 0)" : "=r"(value)); /* HERE */
	return value;
}
