/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* reason: rcu-kept */
/* words: bpf_rcu_read_unlock */
#include "reject.h"

extern void bpf_rcu_read_lock(void) __attribute__((section(".ksyms")));

SEC("xdp")
int prog(struct xdp_md *ctx)
{
	bpf_rcu_read_lock(); /* HERE */
	return XDP_PASS;
}
