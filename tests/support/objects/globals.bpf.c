/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* Global data in every kind of section, static and global, of the same name, as array, struct and string. */
#include "check.h"

struct point {
	int x, y;
};

__u64 zero;
static volatile __u32 hidden_zero[4];
int number = 42;
static volatile int hidden_number = 43;
const volatile __u32 setting = 44;
static const volatile struct point origin = { 1, 2 };
struct point points[3] = { { 1, 2 }, { 3, 4 }, { 5, 6 } };
int custom SEC(".data.custom") = 45;
const volatile int custom_constant SEC(".rodata.custom") = 46;
static const int table[8] = { 1, 2, 4, 8, 16, 32, 64, 128 };

SEC("xdp")
int data(struct xdp_md *ctx)
{
	__u32 index = opaque(2) & 1;

	zero++;
	hidden_zero[index]++;
	return zero && hidden_zero[index] && number == 42 && hidden_number == 43 && custom == 45 ? GOOD : BAD;
}

SEC("xdp")
int constants(struct xdp_md *ctx)
{
	__u32 index = opaque(3) & 7;

	return setting == 44 && origin.y == 2 && custom_constant == 46 && table[index] == 8 ? GOOD : BAD;
}

SEC("tc")
int array(struct __sk_buff *ctx)
{
	__u32 index = opaque(1);
	int sum = 0;

	if (index < 3)
		sum = points[index].x + points[index].y;
	for (int i = 0; i < 3; i++)
		sum += points[i].y;
	return sum == 19 ? GOOD : BAD;
}

/* Two static variables called `same`, in two functions. */
static noinline int one(void)
{
	static volatile int same = 3;

	return same;
}

static noinline int two(void)
{
	static volatile int same = 4;

	return same;
}

SEC("xdp")
int same_names(struct xdp_md *ctx)
{
	return one() + two() == 7 ? GOOD : BAD;
}

/* The literal lies in .rodata.str1.1, which no BTF describes. */
SEC("xdp")
int literal(struct xdp_md *ctx)
{
	char word[8] = "netbpf";

	asm volatile("" : : "r"(word) : "memory");
	if (bpf_strncmp(word, sizeof(word), "netbpf") == 0 && bpf_strncmp(word, sizeof(word), "other") != 0)
		return GOOD;
	return BAD;
}

SEC("tc")
int formatted(struct __sk_buff *ctx)
{
	char out[16] = {};
	__u64 values[] = { 12, 34 };
	static const char format[] = "%d-%d";

	bpf_snprintf(out, sizeof(out), format, values, sizeof(values));
	return out[0] == '1' && out[2] == '-' && out[4] == '4' ? GOOD : BAD;
}
