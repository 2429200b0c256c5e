/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* What libbpf 1.x refuses and people have: odd sections, legacy maps, functions in sections of their own. */
#include "check.h"

struct bpf_map_def {
	unsigned int type, key_size, value_size, max_entries, map_flags;
};

struct bpf_elf_map {
	__u32 type, size_key, size_value, max_elem, flags, id, pinning, inner_id, inner_idx;
};

struct bpf_map_def SEC("maps") legacy = { BPF_MAP_TYPE_HASH, 4, 8, 16, 0 };
static struct bpf_map_def SEC("maps") legacy_static = { BPF_MAP_TYPE_ARRAY, 4, 8, 2, 0 };
struct bpf_elf_map SEC("maps/tails") tails = {
	.type = BPF_MAP_TYPE_PROG_ARRAY, .size_key = 4, .size_value = 4, .max_elem = 4, .id = 9,
};
struct bpf_elf_map SEC("maps/tails") inner = {
	.type = BPF_MAP_TYPE_ARRAY, .size_key = 4, .size_value = 4, .max_elem = 1, .id = 5, .inner_idx = 2,
};
struct bpf_elf_map SEC("maps/tails") outer = {
	.type = BPF_MAP_TYPE_ARRAY_OF_MAPS, .size_key = 4, .size_value = 4, .max_elem = 4, .inner_id = 5,
};

int custom_zero SEC(".bss.custom");

static noinline __attribute__((section("helpers"))) int helper(int x)
{
	return opaque(x) + 1;
}

noinline SEC("classifier") int shared(struct __sk_buff *ctx)
{
	return opaque(ctx->len) ? GOOD : BAD;
}

SEC("xdp_prog")
int firewall(struct xdp_md *ctx)
{
	__u64 value = 3, *found;
	__u32 key = 1;

	bpf_map_update_elem(&legacy, &key, &value, BPF_ANY);
	found = bpf_map_lookup_elem(&legacy, &key);
	if (!found || *found != 3)
		return BAD;
	found = bpf_map_lookup_elem(&legacy_static, &key);
	return found && helper(opaque(1)) == 2 ? GOOD : BAD;
}

static noinline SEC("xdp_prog") int beside(int x)
{
	return opaque(x) * 2;
}

SEC("xdp_other")
int caller(struct xdp_md *ctx)
{
	custom_zero++;
	return beside(opaque(2)) == 4 && custom_zero == 1 ? GOOD : BAD;
}

SEC("classifier/stats")
int stats(struct __sk_buff *ctx)
{
	return shared(ctx);
}

SEC("tc-ingress")
int ingress(struct __sk_buff *ctx)
{
	__u32 zero = 0, two = 2;
	void *map = bpf_map_lookup_elem(&outer, &two);

	if (!map || !bpf_map_lookup_elem(map, &zero) || bpf_map_lookup_elem(&outer, &zero))
		return BAD;
	bpf_tail_call(ctx, &tails, 3);
	return BAD;
}

SEC("9/3")
int tail(struct __sk_buff *ctx)
{
	return GOOD;
}

SEC("tcx/egress")
int egress(struct __sk_buff *ctx)
{
	return GOOD;
}
