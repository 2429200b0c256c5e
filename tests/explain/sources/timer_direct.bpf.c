/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* reason: lock-direct-access */
/* words: bpf_timer */
#include "reject.h"

struct timed {
	struct bpf_timer timer;
	__u64 fired;
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct timed);
} timers SEC(".maps");

SEC("xdp")
int prog(struct xdp_md *ctx)
{
	__u32 key = 0;
	struct timed *one = bpf_map_lookup_elem(&timers, &key);

	if (!one)
		return XDP_PASS;
	*(volatile __u64 *)&one->timer = 0; /* HERE */
	return XDP_DROP;
}
