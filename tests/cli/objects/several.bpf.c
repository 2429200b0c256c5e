/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* Several XDP programs; the verifier rejects one, another needs what no kernel has. */
#include "net.h"

extern int bpf_not_in_any_kernel(void *ctx) __ksym;

SEC("xdp")
int good(struct xdp_md *ctx)
{
	return XDP_PASS;
}

SEC("xdp")
int rejected(struct xdp_md *ctx)
{
	/* Reads the packet without looking at its end. */
	return *(char *)(long)ctx->data;
}

SEC("xdp")
int unsupported(struct xdp_md *ctx)
{
	return bpf_not_in_any_kernel(ctx);
}
