/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* reason: helper-argument */
/* words: bpf_ringbuf_submit, first argument */
#include "reject.h"

VALUES(values);

SEC("xdp")
int prog(struct xdp_md *ctx)
{
	__u32 key = 0;
	void *value = bpf_map_lookup_elem(&values, &key);

	if (value)
		bpf_ringbuf_submit(value, 0); /* HERE */
	return XDP_PASS;
}
