/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* Programs the verifier must refuse. HERE marks the line an explanation has to point at; the head of each file says
 * the rest: the reason's id, words of the sentence, the hook where it is not xdp. */
#ifndef REJECT_H
#define REJECT_H

#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/ip.h>
#include <linux/pkt_cls.h>
#include <bpf/bpf_helpers.h>

#define DATA(ctx) ((void *)(long)(ctx)->data)
#define DATA_END(ctx) ((void *)(long)(ctx)->data_end)
#define noinline __attribute__((noinline))
/* The compiler must not know what a value is. */
#define opaque(x) ({ __u64 _x = (x); asm volatile("" : "+r"(_x)); _x; })

#ifndef LICENSE
#define LICENSE "Dual BSD/GPL"
#endif
char _license[] SEC("license") = LICENSE;

struct value {
	__u32 count;
	__u8 bytes[12];
};

#define VALUES(name) \
	struct { \
		__uint(type, BPF_MAP_TYPE_ARRAY); \
		__uint(max_entries, 4); \
		__type(key, __u32); \
		__type(value, struct value); \
	} name SEC(".maps")

#define RING(name) \
	struct { \
		__uint(type, BPF_MAP_TYPE_RINGBUF); \
		__uint(max_entries, 4096); \
	} name SEC(".maps")

#endif
