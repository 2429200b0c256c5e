/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* protocols.h - count packets and bytes per protocol
 *
 *	netbpf_count_proto(ctx);
 *
 * counts one packet in the classes of enum netbpf_proto (stats.h) it belongs to. Including this
 * header adds the map netbpf_protos.
 */
#ifndef NETBPF_PROTOCOLS_H
#define NETBPF_PROTOCOLS_H

#include <netbpf/parsing.h>
#include <netbpf/stats.h>

/* Packets and bytes per enum netbpf_proto; written by the program, one copy per CPU. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, NETBPF_PROTO_MAX);
	__type(key, __u32);
	__type(value, struct netbpf_counter);
} netbpf_protos SEC(".maps");

struct netbpf_class {
	__u32 eth;  /* NETBPF_PROTO_IPV4, IPV6, ARP or ETH_OTHER */
	__u32 ip;   /* class within IPV4 or IPV6; NETBPF_PROTO_MAX for the others */
	__u32 tags; /* VLAN tags in the frame */
};

/* The last header's protocol number, or a negative error. */
static __always_inline int netbpf_upper_proto(struct netbpf_cursor *cur, int proto, bool ipv6,
					      bool later_fragment)
{
#pragma clang loop unroll(disable)
	for (int i = 0; i < NETBPF_EXT_MAX && !later_fragment && netbpf_is_ext(proto, ipv6); i++) {
		proto = netbpf_parse_ext(cur, proto, &later_fragment);
		if (proto < 0)
			return proto;
	}
	return proto;
}

/* Classify a frame. `class` is right as far as the headers could be read, whatever is returned:
 * 0, NETBPF_TRUNCATED or NETBPF_MALFORMED.
 */
static __always_inline int netbpf_classify(void *data, void *end, struct netbpf_class *class)
{
	struct netbpf_cursor cur = {.data = data, .pos = data, .end = end};
	struct ipv6hdr *ip6;
	struct ethhdr *eth;
	struct iphdr *ip4;
	int type, proto;

	class->eth = NETBPF_PROTO_ETH_OTHER;
	class->ip = NETBPF_PROTO_MAX;
	class->tags = 0;

	type = netbpf_parse_eth(&cur, &eth);
	if (type < 0)
		return type;
	type = netbpf_parse_vlans(&cur, type, &class->tags);
	if (type < 0)
		return type;

	switch (type) {
	case ETH_P_IP:
		class->eth = NETBPF_PROTO_IPV4;
		class->ip = NETBPF_PROTO_IPV4_OTHER;
		proto = netbpf_parse_ipv4(&cur, &ip4);
		if (proto < 0)
			return proto;
		proto = netbpf_upper_proto(&cur, proto, false, netbpf_ipv4_later_fragment(ip4));
		if (proto == IPPROTO_TCP)
			class->ip = NETBPF_PROTO_IPV4_TCP;
		else if (proto == IPPROTO_UDP)
			class->ip = NETBPF_PROTO_IPV4_UDP;
		else if (proto == IPPROTO_ICMP)
			class->ip = NETBPF_PROTO_IPV4_ICMP;
		return proto < 0 ? proto : 0;
	case ETH_P_IPV6:
		class->eth = NETBPF_PROTO_IPV6;
		class->ip = NETBPF_PROTO_IPV6_OTHER;
		proto = netbpf_parse_ipv6(&cur, &ip6);
		if (proto < 0)
			return proto;
		proto = netbpf_upper_proto(&cur, proto, true, false);
		if (proto == IPPROTO_TCP)
			class->ip = NETBPF_PROTO_IPV6_TCP;
		else if (proto == IPPROTO_UDP)
			class->ip = NETBPF_PROTO_IPV6_UDP;
		else if (proto == IPPROTO_ICMPV6)
			class->ip = NETBPF_PROTO_IPV6_ICMPV6;
		return proto < 0 ? proto : 0;
	case ETH_P_ARP:
		class->eth = NETBPF_PROTO_ARP;
		return 0;
	default:
		return 0;
	}
}

static __always_inline void netbpf_add_class(const struct netbpf_class *class, bool tagged,
					     __u64 bytes)
{
	__u32 vlan = NETBPF_PROTO_VLAN;

	netbpf_add(bpf_map_lookup_elem(&netbpf_protos, &class->eth), bytes);
	if (class->ip != NETBPF_PROTO_MAX)
		netbpf_add(bpf_map_lookup_elem(&netbpf_protos, &class->ip), bytes);
	if (tagged)
		netbpf_add(bpf_map_lookup_elem(&netbpf_protos, &vlan), bytes);
}

static __always_inline void netbpf_count_proto_xdp(struct xdp_md *ctx)
{
	struct netbpf_class class;

	netbpf_classify((void *)(long)ctx->data, (void *)(long)ctx->data_end, &class);
	netbpf_add_class(&class, class.tags, netbpf_frame_len_xdp(ctx));
}

/* Pulls headers that are not linear, so packet pointers taken before the call are void after it. */
static __always_inline void netbpf_count_proto_tc(struct __sk_buff *ctx)
{
	struct netbpf_class class;

	/* At most twice: as it comes, and once more after pulling. Unrolled it would only be longer. */
#pragma clang loop unroll(disable)
	for (int i = 0; i < 2; i++) {
		if (netbpf_classify((void *)(long)ctx->data, (void *)(long)ctx->data_end, &class) !=
			    NETBPF_TRUNCATED ||
		    i || !netbpf_pull(ctx))
			break;
	}
	netbpf_add_class(&class, class.tags || ctx->vlan_present, netbpf_frame_len_tc(ctx));
}

/* void netbpf_count_proto(ctx): count the packet's protocols, for either kind of context. */
/* clang-format off */
#define netbpf_count_proto(ctx) \
	_Generic((ctx), struct xdp_md *: netbpf_count_proto_xdp, struct __sk_buff *: netbpf_count_proto_tc)(ctx)
/* clang-format on */

#endif /* NETBPF_PROTOCOLS_H */
