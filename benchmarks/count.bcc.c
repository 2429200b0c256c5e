// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
/* The same work as xdp_globals, in BCC's dialect. */
#include <uapi/linux/bpf.h>

BPF_ARRAY(packets, u64, 1);

int count(struct xdp_md *ctx)
{
	int zero = 0;
	u64 *value = packets.lookup(&zero);

	if (value)
		__sync_fetch_and_add(value, 1);
	return XDP_PASS;
}
