/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* A map that asks libbpf to be pinned by its name, and one that does not. */
#include "net.h"

#ifndef ENTRIES
#define ENTRIES 4
#endif

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, ENTRIES);
	__type(key, __u32);
	__type(value, __u64);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
} shared SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u64);
} own SEC(".maps");

SEC("xdp")
int count(struct xdp_md *ctx)
{
	__u32 zero = 0;
	__u64 *a = bpf_map_lookup_elem(&shared, &zero), *b = bpf_map_lookup_elem(&own, &zero);

	if (a && b) {
		add(*a, 1);
		add(*b, 1);
	}
	return XDP_PASS;
}
