// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
// Reports every packet in each way there is, and counts lengths in histograms.
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <bpf/bpf_helpers.h>

struct seen {
	__u32 length;
	__be32 src_ip;
	char what[8];
};

struct other {
	__u64 one;
	__u32 two;
	__u32 three;
	__u64 four;
};

const struct other *unused_other __attribute__((unused));

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 4096);
	__type(value, struct seen);
} declared SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 4096);
} plain SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERF_EVENT_ARRAY);
	__uint(key_size, 4);
	__uint(value_size, 4);
} sampled SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 64);
	__type(key, int);
	__type(value, __u64);
} lengths SEC(".maps");

__u64 declared_lost;

SEC("xdp")
int reporting(struct xdp_md *ctx)
{
	struct seen seen = {.length = ctx->data_end - ctx->data, .what = "packet"};
	struct other other = {.one = 1, .two = 2, .three = 3, .four = 4};
	int slot = 0;
	__u64 *count;

	bpf_xdp_load_bytes(ctx, ETH_HLEN + 12, &seen.src_ip, 4);
	if (bpf_ringbuf_output(&declared, &seen, sizeof(seen), 0))
		declared_lost++;
	bpf_ringbuf_output(&plain, &other, sizeof(other), 0);
	bpf_perf_event_output(ctx, &sampled, BPF_F_CURRENT_CPU | (14ULL << 32), &other,
			      sizeof(other));
	for (__u32 rest = seen.length; rest && slot < 63; rest >>= 1)
		slot++;
	count = bpf_map_lookup_elem(&lengths, &slot);
	if (count)
		(*count)++;
	return XDP_DROP;
}

char _license[] SEC("license") = "GPL";
