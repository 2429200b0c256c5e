/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* Programs that load: the contexts of XDP and TC as vmlinux.h would have them, but mixed up. */
#include "lookup.h"

struct xdp_md {
	__u32 rx_queue_index;
	__u32 data_end;
	__u32 data;
	__u32 not_there;
} KERNEL;

struct __sk_buff {
	__u32 data_end;
	__u32 data;
	__u32 mark;
	__u32 protocol;
	__u32 cb[5];
	__u32 not_there;
} KERNEL;

static __attribute__((noinline)) int twice(struct xdp_md *ctx)
{
	return ctx->rx_queue_index * 2;
}

SEC("xdp") int pass(struct xdp_md *ctx)
{
	if (bpf_core_field_exists(ctx->not_there))
		sink = ctx->not_there;
	sink = twice(ctx);
	sink = bpf_core_type_size(struct xdp_md);
	return (void *)(long)ctx->data + 14 > (void *)(long)ctx->data_end ? 1 : 2;
}

SEC("tc") int mark(struct __sk_buff *ctx)
{
	if (bpf_core_field_exists(ctx->not_there))
		sink = ctx->not_there;
	ctx->mark = ctx->protocol;
	ctx->cb[4] = ctx->cb[1];
	return (void *)(long)ctx->data + 14 > (void *)(long)ctx->data_end ? 2 : 0;
}
