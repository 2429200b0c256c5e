/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* What the programs for tests of the command line share. */
#ifndef NET_H
#define NET_H

#include <stdbool.h>
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/in6.h>
#include <linux/ip.h>
#include <linux/pkt_cls.h>
#include <linux/udp.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

struct headers {
	struct ethhdr eth;
	struct iphdr ip;
	struct udphdr udp;
} __attribute__((packed));

/* The headers of a packet of at least their length, else NULL. */
#define headers_of(ctx)                                            \
	({                                                         \
		struct headers *_h = (void *)(long)(ctx)->data;    \
		(void *)(_h + 1) > (void *)(long)(ctx)->data_end ? (struct headers *)0 : _h; \
	})

#define add(variable, number) __sync_fetch_and_add(&(variable), number)

char _license[] SEC("license") = "Dual BSD/GPL";

#endif
