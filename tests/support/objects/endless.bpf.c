/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* Rejected after a million instructions: every packet byte doubles the paths, and no two states are alike. */
#include "check.h"

SEC("xdp")
int endless(struct xdp_md *ctx)
{
	__u64 sum = 0;

	for (;;) {
		sum += bpf_get_prandom_u32() & 1;
		if (sum == 0x123456789)
			break;
	}
	return sum;
}
