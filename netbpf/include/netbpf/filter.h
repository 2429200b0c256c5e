/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* filter.h - the rule maps and the judgement that xdp_drop and tc_drop share
 *
 * A rule is one entry of one of the maps below; docs/programs.md explains them to users. Of all
 * rules that match a packet, the one with the lowest rule number decides; of two with the same
 * number, DROP does. Without a rule the policy decides. Each packet costs one lookup per map,
 * whatever the maps hold: what differs is only how deep the prefix tries are.
 *
 * Rules may change at any time. Entries are replaced whole in the hash and the tries; an array
 * entry is 8 aligned bytes, so at worst one packet is counted for the rule that was there before.
 */
#ifndef NETBPF_FILTER_H
#define NETBPF_FILTER_H

#include <netbpf/config.h>
#include <netbpf/parsing.h>
#include <netbpf/stats.h>

/* Short names, because people type them: src_mac[...]={action: DROP, rule: 7}. Zero is no rule, so
 * that an array entry nobody wrote says nothing. So does a number that is not listed here.
 */
enum filter_action {
	NO_RULE = 0,
	PASS = 1,
	DROP = 2,
};

/* Value of every rule. `rule` is its number: its rank, and its index in `hits`. Entries may share a
 * number; they then form one rule. 0 is "unnumbered": after all numbers, and counted in hits[0].
 */
struct filter_rule {
	enum filter_action action;
	__u32 rule;
};

struct filter_prefix4 {
	__u32 prefixlen;
	__u8 addr[4];
};

struct filter_prefix6 {
	__u32 prefixlen;
	__u8 addr[16];
};

/* Packets decided before rules and policy are asked, or although no rule could be found. */
struct filter_exceptions {
	struct netbpf_counter link;	 /* passed by keep_link */
	struct netbpf_counter malformed; /* dropped by drop_malformed */
};

#define FILTER_PREFIX_MAX (4 * 1024 * 1024)
#define FILTER_MAC_MAX	  (64 * 1024)
#define FILTER_HITS_MAX	  (16 * 1024)

#define FILTER_PREFIX_MAP(name, prefix_type)            \
	struct {                                        \
		__uint(type, BPF_MAP_TYPE_LPM_TRIE);    \
		__uint(max_entries, FILTER_PREFIX_MAX); \
		__uint(map_flags, BPF_F_NO_PREALLOC);   \
		__type(key, prefix_type);               \
		__type(value, struct filter_rule);      \
	} name SEC(".maps")

#define FILTER_ARRAY_MAP(name, entries)            \
	struct {                                   \
		__uint(type, BPF_MAP_TYPE_ARRAY);  \
		__uint(max_entries, entries);      \
		__type(key, __u32);                \
		__type(value, struct filter_rule); \
	} name SEC(".maps")

/* Rules, all written by user space. In a prefix map the longest matching prefix is the rule. */
FILTER_PREFIX_MAP(src4, struct filter_prefix4);
FILTER_PREFIX_MAP(dst4, struct filter_prefix4);
FILTER_PREFIX_MAP(src6, struct filter_prefix6);
FILTER_PREFIX_MAP(dst6, struct filter_prefix6);
FILTER_ARRAY_MAP(proto, 256);
FILTER_ARRAY_MAP(tcp_sport, 65536);
FILTER_ARRAY_MAP(tcp_dport, 65536);
FILTER_ARRAY_MAP(udp_sport, 65536);
FILTER_ARRAY_MAP(udp_dport, 65536);

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, FILTER_MAC_MAX);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, __u8[ETH_ALEN]);
	__type(value, struct filter_rule);
} src_mac SEC(".maps");

/* Packets and bytes per rule number, written by the program: each packet that is not an exception
 * adds to one entry. hits[0] is the policy and unnumbered rules; numbers beyond the end share the
 * last entry.
 */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, FILTER_HITS_MAX);
	__type(key, __u32);
	__type(value, struct netbpf_counter);
} hits SEC(".maps");

/* Written by the program: hits and these two add up to netbpf_verdicts. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct filter_exceptions);
} exceptions SEC(".maps");

/* Settings in .data and not in .rodata: an operator tightens a running filter from deny list to
 * allow list without a moment in which no filter, or one with empty maps, is attached. It costs one
 * load per packet, and a value given before load holds from the first packet on.
 */
NETBPF_DESCRIBE("For packets without a rule: PASS makes the rules a deny list, DROP an allow list")
enum filter_action policy = PASS;

NETBPF_DESCRIBE(
	"ARP, IPv6 neighbour discovery, LACP, STP, LLDP pass unless a src_mac rule drops them")
bool keep_link = true;

NETBPF_DESCRIBE("Drop packets whose headers cannot be followed; off: judge by what can be read")
bool drop_malformed = true;

/* What the walk over the headers found, besides the errors of parsing.h. */
enum filter_walk {
	FILTER_DONE = 0,
	FILTER_LINK =
		256, /* traffic the link needs: only src_mac was looked up; no protocol number */
};

/* A rule as one number, higher is better: ~(rule number - 1) << 2 | action. The subtraction is in 32
 * bits, which makes unnumbered rules the lowest; 0 is no rule.
 */
static __always_inline __u64 filter_score(const struct filter_rule *rule)
{
	if (!rule || (rule->action != PASS && rule->action != DROP))
		return 0;
	return (__u64)(~(rule->rule - 1)) << 2 | rule->action;
}

static __always_inline void filter_consider(__u64 *best, const struct filter_rule *rule)
{
	__u64 score = filter_score(rule);

	if (score > *best)
		*best = score;
}

static __always_inline void filter_index(__u64 *best, void *map, __u32 index)
{
	filter_consider(best, bpf_map_lookup_elem(map, &index));
}

/* Everything behind the IP header. A rule for a protocol number matches wherever the number stands
 * in the chain, so that a rule for 43 sees routing headers and a rule for 6 sees TCP behind them.
 */
static __always_inline int filter_upper(struct netbpf_cursor *cur, int next, bool ipv6,
					bool later_fragment, __u64 *best)
{
	struct netbpf_ports *ports;

#pragma clang loop unroll(disable)
	for (int i = 0; i < NETBPF_EXT_MAX; i++) {
		if (later_fragment || !netbpf_is_ext(next, ipv6))
			break;
		filter_index(best, &proto, next);
		next = netbpf_parse_ext(cur, next, &later_fragment);
		if (next < 0)
			return next;
	}
	filter_index(best, &proto, next);
	if (later_fragment)
		return FILTER_DONE;
	if (netbpf_is_ext(next, ipv6))
		return NETBPF_MALFORMED;
	if (next != IPPROTO_TCP && next != IPPROTO_UDP)
		return FILTER_DONE;

	if (netbpf_parse_ports(cur, &ports) < 0)
		return NETBPF_TRUNCATED;
	if (next == IPPROTO_TCP) {
		filter_index(best, &tcp_sport, bpf_ntohs(ports->source));
		filter_index(best, &tcp_dport, bpf_ntohs(ports->dest));
	} else {
		filter_index(best, &udp_sport, bpf_ntohs(ports->source));
		filter_index(best, &udp_dport, bpf_ntohs(ports->dest));
	}
	return FILTER_DONE;
}

/* Addresses of IPv4. Returns the protocol or an error. */
static __always_inline int filter_ipv4(struct netbpf_cursor *cur, bool *later_fragment, __u64 *best)
{
	struct filter_prefix4 key;
	struct iphdr *ip;
	int next;

	next = netbpf_parse_ipv4(cur, &ip);
	if (next < 0)
		return next;
	key.prefixlen = 32;
	__builtin_memcpy(key.addr, &ip->saddr, sizeof(key.addr));
	filter_consider(best, bpf_map_lookup_elem(&src4, &key));
	__builtin_memcpy(key.addr, &ip->daddr, sizeof(key.addr));
	filter_consider(best, bpf_map_lookup_elem(&dst4, &key));
	*later_fragment = netbpf_ipv4_later_fragment(ip);
	return next;
}

/* Router and neighbour solicitation and advertisement. Hop limit 255 proves that the sender is on
 * the link (RFC 4861 section 7.1). Not redirects: a host works without them.
 */
static __always_inline bool filter_is_discovery(const struct netbpf_icmp *icmp)
{
	return icmp->type >= 133 && icmp->type <= 136 && icmp->code == 0;
}

/* Addresses of IPv6. Returns the next header, FILTER_LINK or an error. */
static __always_inline int filter_ipv6(struct netbpf_cursor *cur, __u64 *best)
{
	struct filter_prefix6 key;
	struct netbpf_icmp *icmp;
	struct ipv6hdr *ip;
	int next;

	next = netbpf_parse_ipv6(cur, &ip);
	if (next < 0)
		return next;
	if (next == IPPROTO_ICMPV6 && ip->hop_limit == 255 && keep_link) {
		if (netbpf_parse_icmp(cur, &icmp) < 0)
			return NETBPF_TRUNCATED;
		if (filter_is_discovery(icmp))
			return FILTER_LINK;
	}
	key.prefixlen = 128;
	__builtin_memcpy(key.addr, &ip->saddr, sizeof(key.addr));
	filter_consider(best, bpf_map_lookup_elem(&src6, &key));
	__builtin_memcpy(key.addr, &ip->daddr, sizeof(key.addr));
	filter_consider(best, bpf_map_lookup_elem(&dst6, &key));
	return next;
}

/* 01:80:C2:00:00:0x, the addresses no bridge forwards: STP, LACP, LLDP, 802.1X, PAUSE. */
static __always_inline bool filter_is_link_control(const struct ethhdr *eth)
{
	return eth->h_dest[0] == 0x01 && eth->h_dest[1] == 0x80 && eth->h_dest[2] == 0xc2 &&
	       eth->h_dest[3] == 0 && eth->h_dest[4] == 0 && (eth->h_dest[5] & 0xf0) == 0;
}

/* Look up everything the packet has. Returns FILTER_DONE, FILTER_LINK or a netbpf_parse_error;
 * *best is the best rule among what could be read.
 */
static __always_inline int filter_walk(void *data, void *end, __u64 *best)
{
	struct netbpf_cursor cur = {.data = data, .pos = data, .end = end};
	struct ethhdr *eth;
	bool later_fragment = false;
	int type, next;
	__u32 tags;

	*best = 0;
	type = netbpf_parse_eth(&cur, &eth);
	if (type < 0)
		return type;
	filter_consider(best, bpf_map_lookup_elem(&src_mac, eth->h_source));
	type = netbpf_parse_vlans(&cur, type, &tags);
	if (type < 0)
		return type;

	switch (type) {
	case ETH_P_IP:
		next = filter_ipv4(&cur, &later_fragment, best);
		break;
	case ETH_P_IPV6:
		next = filter_ipv6(&cur, best);
		break;
	case ETH_P_ARP:
		return FILTER_LINK;
	default:
		return filter_is_link_control(eth) ? FILTER_LINK : FILTER_DONE;
	}
	if (next < 0 || next == FILTER_LINK)
		return next;
	if (netbpf_settle(&cur) < 0)
		return NETBPF_MALFORMED;
	return filter_upper(&cur, next, type == ETH_P_IPV6, later_fragment, best);
}

/* Decide and count, given what filter_walk() found. Returns PASS or DROP. */
static __always_inline enum filter_action filter_decide(int walk, __u64 best, __u64 bytes)
{
	struct filter_exceptions *except;
	__u32 zero = 0, rule = 0;

	if (walk < 0 && drop_malformed) {
		except = bpf_map_lookup_elem(&exceptions, &zero);
		if (except)
			netbpf_add(&except->malformed, bytes);
		return DROP;
	}
	if (walk == FILTER_LINK && keep_link && !best) {
		except = bpf_map_lookup_elem(&exceptions, &zero);
		if (except)
			netbpf_add(&except->link, bytes);
		return PASS;
	}

	if (best)
		rule = ~(__u32)(best >> 2) + 1;
	if (rule >= FILTER_HITS_MAX)
		rule = FILTER_HITS_MAX - 1;
	netbpf_add(bpf_map_lookup_elem(&hits, &rule), bytes);
	if (!best)
		return policy == DROP ? DROP : PASS;
	return (best & 3) == DROP ? DROP : PASS;
}

#endif /* NETBPF_FILTER_H */
