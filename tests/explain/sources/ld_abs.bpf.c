/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* reason: ld-abs */
/* words: BPF_LD_ABS */
#include "reject.h"

unsigned long long load_byte(void *skb, unsigned long long offset) asm("llvm.bpf.load.byte");

SEC("xdp")
int prog(struct xdp_md *ctx)
{
	return load_byte(ctx, 12); /* HERE */
}
