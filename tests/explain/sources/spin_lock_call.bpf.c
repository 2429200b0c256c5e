/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* reason: lock-call */
/* words: bpf_ktime_get_ns */
#include "reject.h"

struct locked {
	struct bpf_spin_lock lock;
	int count;
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct locked);
} locks SEC(".maps");

SEC("xdp")
int prog(struct xdp_md *ctx)
{
	__u32 key = 0;
	struct locked *one = bpf_map_lookup_elem(&locks, &key);

	if (!one)
		return XDP_PASS;
	bpf_spin_lock(&one->lock);
	one->count = bpf_ktime_get_ns(); /* HERE */
	bpf_spin_unlock(&one->lock);
	return XDP_DROP;
}
