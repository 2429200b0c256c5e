/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* Programs for tests of the loader: each looks at its own work and returns GOOD where all of it is right. */
#ifndef CHECK_H
#define CHECK_H

#include <linux/bpf.h>
#include <linux/types.h>
#include <bpf/bpf_helpers.h>

#define GOOD 7
#define BAD 1

#define noinline __attribute__((noinline))
/* The compiler must not know what a value is. */
#define opaque(x) ({ __u64 _x = (x); asm volatile("" : "+r"(_x)); _x; })

char _license[] SEC("license") = "Dual BSD/GPL";

#endif
