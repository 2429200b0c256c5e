/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* What needs the object's BTF in the kernel: spin locks, timers, kptrs. */
#include "check.h"

struct locked {
	struct bpf_spin_lock lock;
	int count;
};

struct timed {
	struct bpf_timer timer;
	__u64 fired;
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 4);
	__type(key, __u32);
	__type(value, struct locked);
} locks SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct timed);
} timers SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);
	__uint(max_entries, 1);
	__type(key, __u32);
	__array(values, struct {
		__uint(type, BPF_MAP_TYPE_ARRAY);
		__uint(max_entries, 1);
		__type(key, __u32);
		__type(value, struct locked);
	});
} inner_locks SEC(".maps");

SEC("tc")
int lock(struct __sk_buff *ctx)
{
	struct locked empty = {}, *one;
	__u32 key = 1;

	bpf_map_update_elem(&locks, &key, &empty, BPF_ANY);
	one = bpf_map_lookup_elem(&locks, &key);
	if (!one)
		return BAD;
	bpf_spin_lock(&one->lock);
	one->count++;
	bpf_spin_unlock(&one->lock);
	return bpf_map_lookup_elem(&inner_locks, &key) ? BAD : GOOD;
}

static int fire(void *map, int *key, struct timed *value)
{
	value->fired++;
	return 0;
}

SEC("xdp")
int timer(struct xdp_md *ctx)
{
	__u32 zero = 0;
	struct timed *one = bpf_map_lookup_elem(&timers, &zero);

	if (!one)
		return BAD;
	bpf_timer_init(&one->timer, &timers, 1 /* CLOCK_MONOTONIC */);
	bpf_timer_set_callback(&one->timer, fire);
	bpf_timer_start(&one->timer, 1000000000, 0);
	return bpf_timer_cancel(&one->timer) >= 0 ? GOOD : BAD;
}
