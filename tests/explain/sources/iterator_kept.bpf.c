/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* reason: reference-leak */
/* words: bpf_iter_num_destroy */
#include "reject.h"

struct bpf_iter_num {
	__u64 opaque[1];
} __attribute__((aligned(8)));

extern int bpf_iter_num_new(struct bpf_iter_num *it, int start, int end) __attribute__((section(".ksyms")));

SEC("xdp")
int prog(struct xdp_md *ctx)
{
	struct bpf_iter_num it;

	bpf_iter_num_new(&it, 0, 4); /* HERE */
	return XDP_PASS;
}
