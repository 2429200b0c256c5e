/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* reason: register-uninitialised */
/* words: never got a value */
#include "reject.h"

SEC("xdp")
int prog(struct xdp_md *ctx)
{
	int value;

	asm volatile("%0 = r5" : "=r"(value)); /* HERE */
	return value;
}
