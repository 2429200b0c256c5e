/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* reason: function-argument */
/* words: argument */
#include "reject.h"

struct pair {
	__u64 a, b;
};

noinline int sum(struct pair *pair)
{
	return pair ? pair->a + pair->b : 0;
}

SEC("xdp")
int prog(struct xdp_md *ctx)
{
	return sum((struct pair *)opaque(5)); /* HERE */
}
