/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* reason: helper-unknown */
/* words: 4000 */
#include "reject.h"

static long (*future)(void) = (void *)4000;

SEC("xdp")
int prog(struct xdp_md *ctx)
{
	return future(); /* HERE */
}
