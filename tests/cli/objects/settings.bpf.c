/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* Variables of every type that can be set before load; the program drops what `cfg` and the rest say. */
#include "net.h"

enum verdict {
	VERDICT_PASS,
	VERDICT_DROP,
};

struct config {
	__be16 port;
	__u8 proto;
	bool log;
	__be32 saddr;
	struct in6_addr addr6;
	struct {
		__u16 low, high;
	} range;
};

const volatile __u8 u8;
const volatile __s8 s8;
const volatile __u16 u16;
const volatile __s16 s16;
const volatile __u32 u32;
const volatile __s32 s32;
const volatile __u64 u64;
const volatile __s64 s64;
const volatile bool enabled;
const volatile char letter;
const volatile char word[8];
const volatile unsigned char mac[6];
const volatile unsigned char saddr4[4];
const volatile unsigned char saddr6[16];
const volatile __u16 ports[4];
const volatile enum verdict verdict = VERDICT_DROP;
const volatile struct config cfg = { .port = bpf_htons(7) };
__u32 live = 1;
__u64 dropped;

SEC("xdp")
int settings(struct xdp_md *ctx)
{
	struct headers *h = headers_of(ctx);

	if (h && h->udp.dest == cfg.port) {
		add(dropped, live);
		return verdict == VERDICT_DROP ? XDP_DROP : XDP_PASS;
	}
	return XDP_PASS;
}
