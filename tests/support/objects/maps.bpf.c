/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* A map of every type that XDP and TC programs use. */
#include "check.h"

struct key {
	__u32 prefixlen;
	__u8 address[4];
};

struct value {
	__u64 packets, bytes;
};

#define MAP(name, kind, entries, key_type, value_type)      \
	struct {                                            \
		__uint(type, BPF_MAP_TYPE_##kind);          \
		__uint(max_entries, entries);               \
		__type(key, key_type);                      \
		__type(value, value_type);                  \
	} name SEC(".maps")

MAP(hash, HASH, 16, __u32, struct value);
MAP(array, ARRAY, 16, __u32, struct value);
MAP(percpu_hash, PERCPU_HASH, 16, __u32, struct value);
MAP(percpu_array, PERCPU_ARRAY, 16, __u32, struct value);
MAP(lru_hash, LRU_HASH, 16, __u64, struct value);
MAP(lru_percpu, LRU_PERCPU_HASH, 16, __u64, struct value);
MAP(devmap, DEVMAP, 16, __u32, __u32);
MAP(devmap_val, DEVMAP, 16, __u32, struct bpf_devmap_val);
MAP(devmap_hash, DEVMAP_HASH, 16, __u32, struct bpf_devmap_val);
MAP(cpumap, CPUMAP, 2, __u32, struct bpf_cpumap_val);
MAP(xskmap, XSKMAP, 4, __u32, __u32);

struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(max_entries, 16);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct key);
	__type(value, __u32);
} trie SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 8);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(key_size, 6);
	__uint(value_size, sizeof(__u32));
} by_sizes SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_QUEUE);
	__uint(max_entries, 8);
	__type(value, __u32);
} queue SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_STACK);
	__uint(max_entries, 8);
	__type(value, __u32);
} stack SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_BLOOM_FILTER);
	__uint(max_entries, 64);
	__uint(map_extra, 3);
	__type(value, __u32);
} bloom SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 4096);
} ring SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 5000);
} odd_ring SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERF_EVENT_ARRAY);
	__uint(key_size, sizeof(int));
	__uint(value_size, sizeof(int));
} events SEC(".maps");

#define USE(map, key_value)                                                    \
	({                                                                     \
		typeof(key_value) _key = key_value;                            \
		struct value _value = { 1, 2 };                                \
		bpf_map_update_elem(&map, &_key, &_value, BPF_ANY);            \
		struct value *_found = bpf_map_lookup_elem(&map, &_key);       \
		_found && _found->bytes == 2;                                  \
	})

SEC("xdp")
int tables(struct xdp_md *ctx)
{
	int good = USE(hash, (__u32)1) + USE(array, (__u32)2) + USE(percpu_hash, (__u32)3) +
		   USE(percpu_array, (__u32)4) + USE(lru_hash, (__u64)5) + USE(lru_percpu, (__u64)6);

	return good == 6 ? GOOD : BAD;
}

SEC("xdp")
int redirects(struct xdp_md *ctx)
{
	/* Nothing is in them: the action is that of the flags. */
	int good = bpf_redirect_map(&devmap, 0, XDP_PASS) == XDP_PASS;

	good += bpf_redirect_map(&devmap_val, 0, XDP_PASS) == XDP_PASS;
	good += bpf_redirect_map(&devmap_hash, 0, XDP_PASS) == XDP_PASS;
	good += bpf_redirect_map(&cpumap, 0, XDP_PASS) == XDP_PASS;
	good += bpf_redirect_map(&xskmap, 0, XDP_PASS) == XDP_PASS;
	return good == 5 ? GOOD : BAD;
}

SEC("tc")
int prefixes(struct __sk_buff *ctx)
{
	struct key net = { 8, { 10, 0, 0, 0 } }, host = { 32, { 10, 1, 2, 3 } };
	__u32 value = 9, *found;

	bpf_map_update_elem(&trie, &net, &value, BPF_ANY);
	found = bpf_map_lookup_elem(&trie, &host);
	return found && *found == 9 ? GOOD : BAD;
}

SEC("tc")
int others(struct __sk_buff *ctx)
{
	__u32 value = 5, got = 0;
	__u8 mac[6] = { 1, 2, 3, 4, 5, 6 };

	bpf_map_update_elem(&by_sizes, mac, &value, BPF_ANY);
	if (!bpf_map_lookup_elem(&by_sizes, mac))
		return BAD;
	bpf_map_push_elem(&queue, &value, 0);
	bpf_map_push_elem(&stack, &value, 0);
	bpf_map_push_elem(&bloom, &value, 0);
	if (bpf_map_pop_elem(&queue, &got) || got != 5 || bpf_map_peek_elem(&stack, &got))
		return BAD;
	if (bpf_map_peek_elem(&bloom, &value))
		return BAD;
	bpf_ringbuf_output(&ring, &value, sizeof(value), 0);
	bpf_ringbuf_output(&odd_ring, &value, sizeof(value), 0);
	bpf_perf_event_output(ctx, &events, BPF_F_CURRENT_CPU, &value, sizeof(value));
	return bpf_ringbuf_query(&ring, BPF_RB_AVAIL_DATA) ? GOOD : BAD;
}
