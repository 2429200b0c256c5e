/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* Short names for what CO-RE can ask about a type that looks different here and in the kernel. */
#pragma once

#ifndef __VMLINUX_H__
#include <linux/types.h>
#endif
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>

#define KERNEL __attribute__((preserve_access_index))

volatile __u64 sink;
char _license[] SEC("license") = "Dual BSD/GPL";

#define FIELD(what, expression) (sink = __builtin_preserve_field_info(expression, BPF_FIELD_##what))
#define ALL_OF(expression)                       \
	do {                                     \
		FIELD(BYTE_OFFSET, expression);  \
		FIELD(BYTE_SIZE, expression);    \
		FIELD(EXISTS, expression);       \
		FIELD(SIGNED, expression);       \
		FIELD(LSHIFT_U64, expression);   \
		FIELD(RSHIFT_U64, expression);   \
	} while (0)
#define PLACE_OF(expression)                     \
	do {                                     \
		FIELD(BYTE_OFFSET, expression);  \
		FIELD(BYTE_SIZE, expression);    \
		FIELD(EXISTS, expression);       \
	} while (0)
