/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* reason: call-depth */
/* words: 8 */
#include "reject.h"

#define LEVEL(name, next) \
	static noinline int name(__u64 n) \
	{ \
		return next(opaque(n)) + opaque(n); \
	}

static noinline int f9(__u64 n)
{
	return opaque(n);
}
LEVEL(f8, f9)
LEVEL(f7, f8) /* HERE */
LEVEL(f6, f7)
LEVEL(f5, f6)
LEVEL(f4, f5)
LEVEL(f3, f4)
LEVEL(f2, f3)
LEVEL(f1, f2)

SEC("xdp")
int prog(struct xdp_md *ctx)
{
	return f1(ctx->rx_queue_index);
}
