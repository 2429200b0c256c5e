/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* stats.h - count packets and bytes per verdict, in a form `netbpf stats` shows by name
 *
 *	#include <netbpf/stats.h>
 *
 *	SEC("xdp")
 *	int my_prog(struct xdp_md *ctx)
 *	{
 *		...
 *		return netbpf_count(ctx, XDP_PASS);
 *	}
 *
 * Including it adds one map, netbpf_verdicts. Counters are per CPU and written without atomics: XDP
 * and TC programs run with softirqs off, so nothing interrupts an update on its CPU.
 *
 * The numbers below are read by user space; they never change, new ones are added at the end.
 */
#ifndef NETBPF_STATS_H
#define NETBPF_STATS_H

#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

#include <netbpf/tc_action.h>

/* One counter. Bytes are frame bytes, Ethernet header and VLAN tags included, FCS not. */
struct netbpf_counter {
	__u64 packets;
	__u64 bytes;
};

/* Index into netbpf_protos (protocols.h). Every packet is counted in exactly one of the Ethernet
 * classes; if that is IPV4 or IPV6 also in exactly one class of that family; and in VLAN if it
 * carries a tag, however many.
 */
enum netbpf_proto {
	NETBPF_PROTO_IPV4 = 0,
	NETBPF_PROTO_IPV6 = 1,
	NETBPF_PROTO_ARP = 2,
	NETBPF_PROTO_ETH_OTHER = 3, /* any other EtherType, or a frame too short to have one */
	NETBPF_PROTO_IPV4_TCP = 4,
	NETBPF_PROTO_IPV4_UDP = 5,
	NETBPF_PROTO_IPV4_ICMP = 6,
	NETBPF_PROTO_IPV4_OTHER = 7, /* any other protocol, or unreadable */
	NETBPF_PROTO_IPV6_TCP = 8,
	NETBPF_PROTO_IPV6_UDP = 9,
	NETBPF_PROTO_IPV6_ICMPV6 = 10,
	NETBPF_PROTO_IPV6_OTHER = 11,
	NETBPF_PROTO_VLAN = 12,
	NETBPF_PROTO_MAX = 13,
};

/* Entries of netbpf_verdicts: XDP uses index = action (0 ABORTED ... 4 REDIRECT), TC uses
 * index = action + 1 (0 UNSPEC, 1 OK, 3 SHOT ... 9 TRAP). Which of the two holds follows from the
 * type of the program that owns the map.
 */
#define NETBPF_VERDICT_MAX (TC_ACT_TRAP + 2)

/* Packets and bytes per verdict; written by the program, one copy per CPU. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, NETBPF_VERDICT_MAX);
	__type(key, __u32);
	__type(value, struct netbpf_counter);
} netbpf_verdicts SEC(".maps");

/* Add one packet of `bytes` bytes. A NULL counter (index out of range) is ignored. */
static __always_inline void netbpf_add(struct netbpf_counter *counter, __u64 bytes)
{
	if (!counter)
		return;
	counter->packets++;
	counter->bytes += bytes;
}

/* Length of the frame in bytes, now: a program that grew or shrank it gets the new length.
 * A program in SEC("xdp.frags") defines NETBPF_XDP_FRAGS before the include, because for it
 * data_end is only the end of the first buffer; the helper needs Linux 5.18.
 */
static __always_inline __u64 netbpf_frame_len_xdp(struct xdp_md *ctx)
{
#ifdef NETBPF_XDP_FRAGS
	return bpf_xdp_get_buff_len(ctx);
#else
	return (void *)(long)ctx->data_end - (void *)(long)ctx->data;
#endif
}

/* The same for TC. A tag that was taken out of the frame into the skb's metadata was on the wire
 * (or will be), so its 4 bytes count. An aggregate (GRO, GSO) is one packet with all its bytes.
 */
static __always_inline __u64 netbpf_frame_len_tc(struct __sk_buff *ctx)
{
	return ctx->len + (ctx->vlan_present ? 4 : 0);
}

/* Count `action` for this packet and return it. What is not an XDP action is counted as
 * XDP_ABORTED, because that is how the kernel treats it; it is returned unchanged.
 */
static __always_inline int netbpf_count_xdp(struct xdp_md *ctx, int action)
{
	__u32 index = (__u32)action <= XDP_REDIRECT ? action : XDP_ABORTED;

	netbpf_add(bpf_map_lookup_elem(&netbpf_verdicts, &index), netbpf_frame_len_xdp(ctx));
	return action;
}

/* The same for TC. What is not a TC action is counted as TC_ACT_UNSPEC, again like the kernel. */
static __always_inline int netbpf_count_tc(struct __sk_buff *ctx, int action)
{
	__u32 index = (__u32)action + 1;

	if (index >= NETBPF_VERDICT_MAX)
		index = 0;
	netbpf_add(bpf_map_lookup_elem(&netbpf_verdicts, &index), netbpf_frame_len_tc(ctx));
	return action;
}

/* u64 netbpf_frame_len(ctx): length of the frame in bytes, for either kind of context. */
/* clang-format off */
#define netbpf_frame_len(ctx) \
	_Generic((ctx), struct xdp_md *: netbpf_frame_len_xdp, struct __sk_buff *: netbpf_frame_len_tc)(ctx)
/* clang-format on */

/* int netbpf_count(ctx, action): count and return the verdict, for either kind of context. */
/* clang-format off */
#define netbpf_count(ctx, action) \
	_Generic((ctx), struct xdp_md *: netbpf_count_xdp, struct __sk_buff *: netbpf_count_tc)(ctx, action)
/* clang-format on */

#endif /* NETBPF_STATS_H */
