/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* Maps of maps, with and without maps put in by static initialisers. */
#include "check.h"

struct inner {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u32);
} inner_a SEC(".maps"), inner_b SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);
	__uint(max_entries, 8);
	__type(key, __u32);
	__array(values, struct inner);
} by_index SEC(".maps") = {
	.values = { [0] = &inner_a, [5] = &inner_b },
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH_OF_MAPS);
	__uint(max_entries, 4);
	__type(key, __u32);
	__array(values, struct inner);
} by_key SEC(".maps") = {
	.values = { [2] = &inner_b },
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);
	__uint(max_entries, 2);
	__uint(key_size, sizeof(__u32));
	__array(values, struct {
		__uint(type, BPF_MAP_TYPE_HASH);
		__uint(max_entries, 16);
		__type(key, __u64);
		__type(value, __u64);
	});
} empty SEC(".maps");


SEC("xdp")
int nested(struct xdp_md *ctx)
{
	__u32 zero = 0, two = 2, five = 5, one = 1, *value;
	void *map = bpf_map_lookup_elem(&by_index, &five), *same = bpf_map_lookup_elem(&by_key, &two);

	if (!map || !same || bpf_map_lookup_elem(&by_index, &one))
		return BAD;
	value = bpf_map_lookup_elem(map, &zero);
	if (!value)
		return BAD;
	*value = 77;
	value = bpf_map_lookup_elem(same, &zero);
	if (!value || *value != 77 || bpf_map_lookup_elem(&empty, &zero))
		return BAD;
	return GOOD;
}
