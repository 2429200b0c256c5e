/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* reason: rcu-kept */
/* words: bpf_preempt_enable */
#include "reject.h"

extern void bpf_preempt_disable(void) __attribute__((section(".ksyms")));

SEC("xdp")
int prog(struct xdp_md *ctx)
{
	bpf_preempt_disable(); /* HERE */
	return XDP_PASS;
}
