/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* reason: core-missing */
/* words: no_such_field */
#include "reject.h"

struct net_device {
	int ifindex;
	int no_such_field;
} __attribute__((preserve_access_index));

SEC("xdp")
int prog(struct xdp_md *ctx)
{
	struct net_device *device = (void *)opaque(ctx->rx_queue_index);
	int value = 0;

	bpf_probe_read_kernel(&value, sizeof(value), &device->no_such_field); /* HERE */
	return value;
}
