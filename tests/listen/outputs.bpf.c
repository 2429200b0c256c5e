// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
// Writes what a packet says: byte 14 is the way, bytes 16 and 17 are how many bytes from 18 on.
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

#define MOST 400

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 4096);
} ring SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERF_EVENT_ARRAY);
	__uint(key_size, 4);
	__uint(value_size, 4);
} perf SEC(".maps");

__u64 lost;

SEC("xdp")
int outputs(struct xdp_md *ctx)
{
	__u8 way;
	__u64 size = 0;
	char data[MOST];

	if (bpf_xdp_load_bytes(ctx, 14, &way, 1) || bpf_xdp_load_bytes(ctx, 16, &size, 2))
		return XDP_ABORTED;
	barrier_var(size);
	if (size == 0 || size > MOST || bpf_xdp_load_bytes(ctx, 18, data, size))
		return XDP_ABORTED;
	if (way == 'd') {
		void *room = bpf_ringbuf_reserve(&ring, 24, 0);

		if (room)
			bpf_ringbuf_discard(room, 0);
	} else if (way == 'p') {
		if (bpf_perf_event_output(ctx, &perf, BPF_F_CURRENT_CPU, data, size))
			lost++;
	} else if (bpf_ringbuf_output(&ring, data, size, way == 'q' ? BPF_RB_NO_WAKEUP : 0)) {
		lost++;
	}
	return XDP_PASS;
}

char _license[] SEC("license") = "GPL";
