/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* reason: timer-map */
/* words: bpf_timer_init */
#include "reject.h"

struct timed {
	struct bpf_timer timer;
	__u64 fired;
};

#define TIMERS(name) \
	struct { \
		__uint(type, BPF_MAP_TYPE_ARRAY); \
		__uint(max_entries, 1); \
		__type(key, __u32); \
		__type(value, struct timed); \
	} name SEC(".maps")
TIMERS(one);
TIMERS(other);

SEC("xdp")
int prog(struct xdp_md *ctx)
{
	__u32 key = 0;
	struct timed *value = bpf_map_lookup_elem(&one, &key);

	if (!value)
		return XDP_PASS;
	bpf_timer_init(&value->timer, &other, 1); /* HERE */
	return XDP_DROP;
}
