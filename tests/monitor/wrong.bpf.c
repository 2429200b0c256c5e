// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
/* wrong - everything that can go wrong with a packet, by the first byte of its UDP payload
 *
 * The map `tx` has what a test puts there.
 */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

#define PAYLOAD (14 + 20 + 8)

struct {
	__uint(type, BPF_MAP_TYPE_DEVMAP);
	__uint(max_entries, 8);
	__type(key, __u32);
	__type(value, __u32);
} tx SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_CPUMAP);
	__uint(max_entries, 2);
	__type(key, __u32);
	__type(value, struct bpf_cpumap_val);
} cpus SEC(".maps");

const volatile int target = 0;

static __always_inline int what(struct xdp_md *ctx)
{
	unsigned char *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;

	return data + PAYLOAD + 1 > end || data[12] != 8 ? 0 : data[PAYLOAD];
}

SEC("xdp") int wrong(struct xdp_md *ctx)
{
	switch (what(ctx)) {
	case 'a':
		return XDP_ABORTED;
	case 'd':
		return XDP_DROP;
	case 'v':
		return 77;
	case 't':
		return XDP_TX;
	case 'm':
		return bpf_redirect_map(&tx, 7, 0); /* no such entry */
	case 'n':
		return XDP_REDIRECT;
	case 'i':
		return bpf_redirect(4711, 0);
	case 'r':
		return bpf_redirect(target, 0);
	case 'x':
		return bpf_redirect_map(&tx, 0, 0);
	case 'c':
		return bpf_redirect_map(&cpus, 0, 0);
	}
	return XDP_PASS;
}

SEC("xdp") int silent(struct xdp_md *ctx)
{
	return ctx ? XDP_PASS : XDP_DROP;
}

SEC("xdp/cpumap") int refuse(struct xdp_md *ctx)
{
	return ctx ? XDP_DROP : XDP_PASS;
}

SEC("tc") int shoot(struct __sk_buff *ctx)
{
	return ctx ? 2 : 0;
}

char _license[] SEC("license") = "GPL";
