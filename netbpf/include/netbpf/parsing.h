/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* parsing.h - walk the headers of a packet, for XDP and TC alike
 *
 * A cursor stands on the next unread byte. Each netbpf_parse_*() checks that its header lies inside
 * [pos, end), hands out a pointer to it, moves the cursor behind it and returns what comes next.
 * On failure it returns a negative enum netbpf_parse_error and the cursor's position means nothing.
 *
 * EtherTypes are returned in host byte order, so compare them with ETH_P_IP and not with
 * bpf_htons(ETH_P_IP). Fields read through the pointers are in network order, as on the wire.
 *
 * At TC, `end` is the end of the linear part only: NETBPF_TRUNCATED can mean that the header is
 * there but not linear. Try netbpf_pull() and parse again.
 */
#ifndef NETBPF_PARSING_H
#define NETBPF_PARSING_H

#include <stdbool.h>
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/in6.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

/* Tags followed inside the frame. Two are ordinary (802.1ad); more come from misuse. */
#define NETBPF_VLAN_MAX 4

/* Extension headers followed. RFC 8200 section 4.1 allows eight in a sensible packet (hop-by-hop,
 * two destination options, routing, fragment, AH, mobility, and one of HIP or Shim6).
 */
#define NETBPF_EXT_MAX 8

/* All headers must begin within this many bytes of the frame. That is far more than those of any
 * sensible packet, and little enough that netbpf_pull() cannot be abused to copy 64 KB aggregates.
 */
#define NETBPF_HEADERS_MAX 4096

enum netbpf_parse_error {
	NETBPF_TRUNCATED = -1, /* the packet, or its linear part, ends inside a header */
	NETBPF_MALFORMED = -2, /* a field is impossible, or there are too many headers */
};

struct netbpf_cursor {
	void *data; /* first byte of the frame */
	void *pos;
	void *end;
};

/* 802.1Q and 802.1ad tag, behind the first EtherType. */
struct netbpf_vlan {
	__be16 tci;
	__be16 ethertype;
};

/* The first four bytes of TCP and UDP. */
struct netbpf_ports {
	__be16 source;
	__be16 dest;
};

/* What all IPv6 extension headers, and AH, begin with. All are at least 8 bytes long. */
struct netbpf_ext {
	__u8 nexthdr;
	__u8 len;	 /* unit depends on the header; unused in a fragment header */
	__be16 frag_off; /* fragment header only: offset in the upper 13 bits */
	__be32 rest;
};

/* First bytes of ICMP and ICMPv6. */
struct netbpf_icmp {
	__u8 type;
	__u8 code;
};

/* Ethernet. Returns the EtherType, which may be a VLAN tag's or an 802.3 length. */
static __always_inline int netbpf_parse_eth(struct netbpf_cursor *cur, struct ethhdr **eth)
{
	struct ethhdr *hdr = cur->pos;

	if ((void *)(hdr + 1) > cur->end)
		return NETBPF_TRUNCATED;
	cur->pos = hdr + 1;
	*eth = hdr;
	return bpf_ntohs(hdr->h_proto);
}

/* Forget on which path the cursor came here. The verifier follows each number of tags and each
 * sequence of extension headers as a state of its own, with other bounds on `pos`, until a program
 * is too large. The difference of two packet pointers is just a number to it: so this turns all
 * those states into one, an offset of at most NETBPF_HEADERS_MAX. Returns 0 or NETBPF_MALFORMED.
 */
static __always_inline int netbpf_settle(struct netbpf_cursor *cur)
{
	__u64 offset = cur->pos - cur->data;

	asm volatile(""
		     : "+r"(offset)); /* else the compiler finds data + (pos - data) equal to pos */
	if (offset > NETBPF_HEADERS_MAX)
		return NETBPF_MALFORMED;
	cur->pos = cur->data + offset;
	return 0;
}

/* Is this EtherType a VLAN tag's? Includes the unregistered ones that old QinQ switches use. */
static __always_inline bool netbpf_is_vlan(int ethertype)
{
	return ethertype == ETH_P_8021Q || ethertype == ETH_P_8021AD || ethertype == ETH_P_QINQ1 ||
	       ethertype == ETH_P_QINQ2 || ethertype == ETH_P_QINQ3;
}

/* VLAN tags, as many as there are (none is fine), after the EtherType `ethertype`.
 * Returns the EtherType behind the last one and stores their number in *tags.
 * NETBPF_MALFORMED: more than NETBPF_VLAN_MAX.
 */
static __always_inline int netbpf_parse_vlans(struct netbpf_cursor *cur, int ethertype, __u32 *tags)
{
	__u32 i;

	*tags = 0;
	for (i = 0; i < NETBPF_VLAN_MAX && netbpf_is_vlan(ethertype); i++) {
		struct netbpf_vlan *vlan = cur->pos;

		*tags = i + 1;
		if ((void *)(vlan + 1) > cur->end)
			return NETBPF_TRUNCATED;
		cur->pos = vlan + 1;
		ethertype = bpf_ntohs(vlan->ethertype);
	}
	if (netbpf_is_vlan(ethertype) || netbpf_settle(cur) < 0)
		return NETBPF_MALFORMED;
	return ethertype;
}

/* IPv4 with its options. Returns the protocol. NETBPF_MALFORMED: version is not 4 or ihl below 5.
 * Lengths and the checksum are not judged: the stack drops a packet in which they lie.
 */
static __always_inline int netbpf_parse_ipv4(struct netbpf_cursor *cur, struct iphdr **ip)
{
	struct iphdr *hdr = cur->pos;
	__u32 len;

	if ((void *)(hdr + 1) > cur->end)
		return NETBPF_TRUNCATED;
	len = hdr->ihl * 4;
	if (hdr->version != 4 || len < sizeof(*hdr))
		return NETBPF_MALFORMED;
	if (cur->pos + len > cur->end)
		return NETBPF_TRUNCATED;
	cur->pos += len;
	*ip = hdr;
	return hdr->protocol;
}

/* A fragment that does not start at offset 0 has no transport header, only bytes that an attacker
 * may have made look like one.
 */
static __always_inline bool netbpf_ipv4_later_fragment(const struct iphdr *ip)
{
	return ip->frag_off & bpf_htons(0x1fff);
}

/* The fixed IPv6 header. Returns the next header. NETBPF_MALFORMED: version is not 6. */
static __always_inline int netbpf_parse_ipv6(struct netbpf_cursor *cur, struct ipv6hdr **ip6)
{
	struct ipv6hdr *hdr = cur->pos;

	if ((void *)(hdr + 1) > cur->end)
		return NETBPF_TRUNCATED;
	if (hdr->version != 6)
		return NETBPF_MALFORMED;
	cur->pos = hdr + 1;
	*ip6 = hdr;
	return hdr->nexthdr;
}

/* Is `proto` a header with another one behind it? ESP is not: what follows is encrypted.
 * `ipv6` false: IPv4 has only AH; there the other numbers are upper protocols or nonsense.
 */
static __always_inline bool netbpf_is_ext(int proto, bool ipv6)
{
	if (proto == IPPROTO_AH)
		return true;
	return ipv6 && (proto == IPPROTO_HOPOPTS || proto == IPPROTO_ROUTING ||
			proto == IPPROTO_FRAGMENT || proto == IPPROTO_DSTOPTS ||
			proto == IPPROTO_MH || proto == 139 /* HIP */ || proto == 140 /* Shim6 */);
}

/* One header for which netbpf_is_ext(proto) holds. Returns the next header. Sets *later_fragment
 * (never clears it) at a fragment header with an offset: then there is no header behind, and the
 * number returned only tells what the first fragment has there.
 */
static __always_inline int netbpf_parse_ext(struct netbpf_cursor *cur, int proto,
					    bool *later_fragment)
{
	struct netbpf_ext *ext = cur->pos;
	__u32 len;
	int next;

	if ((void *)(ext + 1) > cur->end)
		return NETBPF_TRUNCATED;
	len = (ext->len + 1) * 8;
	if (proto == IPPROTO_AH)
		len = (ext->len + 2) * 4;
	if (proto == IPPROTO_FRAGMENT) {
		len = sizeof(*ext);
		if (ext->frag_off & bpf_htons(0xfff8))
			*later_fragment = true;
	}
	if (cur->pos + len > cur->end)
		return NETBPF_TRUNCATED;
	next = ext->nexthdr;
	cur->pos += len;
	return netbpf_settle(cur) < 0 ? NETBPF_MALFORMED : next;
}

/* Source and destination port of TCP or UDP. Returns 0. The cursor stays on the header. */
static __always_inline int netbpf_parse_ports(struct netbpf_cursor *cur,
					      struct netbpf_ports **ports)
{
	struct netbpf_ports *hdr = cur->pos;

	if ((void *)(hdr + 1) > cur->end)
		return NETBPF_TRUNCATED;
	*ports = hdr;
	return 0;
}

/* Type and code of ICMP or ICMPv6. Returns 0. The cursor stays on the header. */
static __always_inline int netbpf_parse_icmp(struct netbpf_cursor *cur, struct netbpf_icmp **icmp)
{
	struct netbpf_icmp *hdr = cur->pos;

	if ((void *)(hdr + 1) > cur->end)
		return NETBPF_TRUNCATED;
	*icmp = hdr;
	return 0;
}

/* TC: make more of a packet readable whose linear part was too short. Returns true if there is now
 * more to parse; all packet pointers are void after the call and must be read from skb again.
 */
static __always_inline bool netbpf_pull(struct __sk_buff *skb)
{
	__u64 linear = (void *)(long)skb->data_end - (void *)(long)skb->data;
	__u32 want = NETBPF_HEADERS_MAX + 64; /* the last header may begin at the limit */

	if (want > skb->len)
		want = skb->len;
	return linear < want && bpf_skb_pull_data(skb, want) == 0;
}

#endif /* NETBPF_PARSING_H */
