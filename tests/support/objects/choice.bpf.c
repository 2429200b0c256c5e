/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* One program that loads, among siblings that never will: rejected, of another kernel, of another hook. */
#include "check.h"

extern int bpf_netbpf_is_not_there(void *ctx) __ksym;
extern int CONFIG_NETBPF_IS_NOT_THERE __kconfig;
int undefined_function(void *ctx);

struct {
	__uint(type, 250);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u32);
} future SEC(".maps");

SEC("tc")
int chosen(struct __sk_buff *ctx)
{
	return GOOD;
}

SEC("xdp")
int rejected(struct xdp_md *ctx)
{
	return *(volatile int *)(long)ctx->data;
}

SEC("xdp")
int needs_function(struct xdp_md *ctx)
{
	return bpf_netbpf_is_not_there(ctx);
}

SEC("xdp")
int needs_config(struct xdp_md *ctx)
{
	return CONFIG_NETBPF_IS_NOT_THERE;
}

SEC("xdp")
int needs_map(struct xdp_md *ctx)
{
	__u32 key = 0;

	return bpf_map_lookup_elem(&future, &key) ? GOOD : BAD;
}

SEC("xdp")
int needs_helper(struct xdp_md *ctx)
{
	static int (*helper)(void *) = (void *)4000;

	return helper(ctx);
}

SEC("xdp")
int calls_nothing(struct xdp_md *ctx)
{
	return undefined_function(ctx);
}

SEC("kprobe/netif_rx")
int probe(void *ctx)
{
	return 0;
}
