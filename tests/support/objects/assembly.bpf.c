/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* Inline assembly: calls, map loads and 64-bit constants that no compiler laid out. */
#include "check.h"

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u64);
} slots SEC(".maps");

__u64 counter = 5;

static noinline __attribute__((used)) __u64 add_one(__u64 x)
{
	return opaque(x) + 1;
}

SEC("xdp")
int calls(struct xdp_md *ctx)
{
	__u64 result;

	asm volatile("r1 = 6; call add_one; %0 = r0"
		     : "=r"(result)
		     :
		     : "r0", "r1", "r2", "r3", "r4", "r5");
	return result == 7 ? GOOD : BAD;
}

SEC("xdp")
int loads(struct xdp_md *ctx)
{
	__u64 result, wide;

	asm volatile("*(u32 *)(r10 - 4) = %[zero];"
		     "r2 = r10;"
		     "r2 += -4;"
		     "r1 = slots ll;"
		     "call %[lookup];"
		     "if r0 == 0 goto +2;"
		     "r1 = counter ll;"
		     "r0 = *(u64 *)(r1 + 0);"
		     "%[result] = r0;"
		     "%[wide] = 0x123456789abcdef0 ll"
		     : [result] "=r"(result), [wide] "=r"(wide)
		     : [zero] "r"(0), [lookup] "i"(BPF_FUNC_map_lookup_elem)
		     : "r0", "r1", "r2", "r3", "r4", "r5", "memory");
	return result == 5 && wide == 0x123456789abcdef0 ? GOOD : BAD;
}
