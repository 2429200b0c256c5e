// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
/* What a program can do to the buffer of a packet, as the packet itself says. */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

enum { HEAD = 1, TAIL = 2, META = 4, PEEK = 8, WRITE = 16, DIRTY = 32, UNDO = 64 };

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 8);
	__type(key, __u32);
	__type(value, __u64);
} verdicts SEC(".maps");

__u64 seen, hashes;

const volatile __u8 dirt[200] = { [0 ... 199] = 0xAA };

/* Of what the program can see: metadata, the beginning and the end, in pieces of 16 bytes. */
static __always_inline __u32 hash(struct xdp_md *ctx)
{
	__u32 *meta = (void *)(long)ctx->data_meta, *data = (void *)(long)ctx->data;
	__u32 length = (void *)(long)ctx->data_end - (void *)data, sum = length, at, begin;
	__u32 piece[4] = {};

	for (at = 0; at < 7; at++) {
		if (meta + at + 1 > data)
			break;
		sum = sum * 37 + meta[at];
	}
	for (begin = 0; begin < 256; begin += 16) {
		if (bpf_xdp_load_bytes(ctx, begin, piece, sizeof(piece)))
			break;
		for (at = 0; at < 4; at++)
			sum = sum * 31 + piece[at];
	}
	if (!bpf_xdp_load_bytes(ctx, length - 16, piece, sizeof(piece)))
		for (at = 0; at < 4; at++)
			sum = sum * 41 + piece[at];
	return sum;
}

SEC("xdp")
int messing(struct xdp_md *ctx)
{
	unsigned char *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
	signed char head, tail;
	__u8 what, meta;
	__u32 sum, at;
	__u64 *count;

	seen++;
	if (data + 20 > end)
		return XDP_PASS;
	head = data[14];
	tail = data[15];
	what = data[16];
	meta = data[17];
	if (what & DIRTY && !bpf_xdp_adjust_head(ctx, -200)) {
		bpf_xdp_store_bytes(ctx, 0, (void *)dirt, sizeof(dirt));
		if (what & UNDO)
			bpf_xdp_adjust_head(ctx, 200);
	}
	if (what & HEAD)
		bpf_xdp_adjust_head(ctx, head);
	if (what & TAIL)
		bpf_xdp_adjust_tail(ctx, tail * 4);
	if (what & META && !bpf_xdp_adjust_meta(ctx, -(meta & 0x1c))) {
		unsigned char *place = (void *)(long)ctx->data_meta;

		data = (void *)(long)ctx->data;
		if (what & WRITE && place + 4 <= data)
			*(__u32 *)place = seen;
	}
	sum = hash(ctx);
	if (what & PEEK && !bpf_xdp_adjust_head(ctx, -16))
		sum += hash(ctx);
	data = (void *)(long)ctx->data;
	end = (void *)(long)ctx->data_end;
	if (what & WRITE && data + 14 <= end)
		*(__u32 *)data = sum;
	hashes = hashes * 7 + sum;
	at = sum % 8;
	count = bpf_map_lookup_elem(&verdicts, &at);
	if (count)
		++*count;
	return sum % 7;
}

SEC("xdp.frags")
int in_parts(struct xdp_md *ctx)
{
	return messing(ctx);
}

char _license[] SEC("license") = "Dual BSD/GPL";
