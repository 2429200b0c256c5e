/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* Packets in several buffers, a program for devmap entries, one for cpumap entries. */
#include "check.h"

SEC("xdp.frags")
int frags(struct xdp_md *ctx)
{
	return bpf_xdp_get_buff_len(ctx) >= 14 ? GOOD : BAD;
}

SEC("xdp")
int whole(struct xdp_md *ctx)
{
	return bpf_xdp_get_buff_len(ctx) >= 14 ? GOOD : BAD;
}
