/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* Whole types and enumerators. */
#include "lookup.h"

struct iphdr {
	int one;
};
struct iphdr___flavor {
	long one, two;
};
struct not_in_any_kernel {
	int one;
};
union nf_inet_addr {
	int other;
};
struct nf_inet_addr___wrong_kind {
	int other;
};
struct ethhdr___matching {
	__u8 h_dest[6];
	__u16 h_proto;
};
struct ethhdr___longer {
	__u8 h_dest[7];
};
struct ethhdr___unknown {
	__u8 h_what[6];
};
struct list_head {
	struct list_head *prev, *next;
};
struct hlist_node___matching {
	struct hlist_node *next;
	struct hlist_node **pprev;
};
struct hlist_node___value {
	struct hlist_node *next;
	struct hlist_node *pprev;
};
struct callback_head___function {
	void (*func)(struct callback_head *head);
};
struct callback_head___parameters {
	void (*func)(struct callback_head *head, int more);
};
struct callback_head___result {
	int (*func)(struct callback_head *head);
};
struct sk_buff___enum {
	struct {
		int nothing_at_all;
	};
};
typedef __u32 gfp_t;
typedef struct {
	int counter;
} atomic_t;
typedef struct {
	int other;
} atomic_t___other;
typedef int no_such_type_t;
typedef int pid_t___int;
typedef struct task_struct *pid_t;
typedef void (*rcu_callback_t)(struct callback_head *);
typedef void (*rcu_callback_t___more)(struct callback_head *, int);

enum bpf_map_type {
	BPF_MAP_TYPE_ARRAY = 100,
	BPF_MAP_TYPE_HASH = 101,
	BPF_MAP_TYPE_LPM_TRIE___flavor = 102,
	BPF_MAP_TYPE_NONSENSE = 103,
};
enum bpf_map_type___few {
	BPF_MAP_TYPE_HASH___few = 1,
};
enum bpf_map_type___wrong {
	BPF_MAP_TYPE_HASH___wrong = 1,
	BPF_MAP_TYPE_WRONG = 2,
};
enum netdev_tx {
	__NETDEV_TX_MIN = -7,
	NETDEV_TX_BUSY = 3,
};
enum blake2b_iv {
	BLAKE2B_IV0 = 0x1122334455667788ULL,
	BLAKE2B_IV7 = 1,
};
enum perf_callchain_context {
	PERF_CONTEXT_HV = 3,
	PERF_CONTEXT_MAX = 4,
};

#define TYPE(type)                                   \
	do {                                         \
		sink = bpf_core_type_exists(type);   \
		sink = bpf_core_type_size(type);     \
		sink = bpf_core_type_id_local(type); \
		sink = bpf_core_type_id_kernel(type);\
	} while (0)
#define ENUMERATOR(type, value)                              \
	do {                                                 \
		sink = bpf_core_enum_value_exists(type, value); \
		if (bpf_core_enum_value_exists(type, value)) \
			sink = bpf_core_enum_value(type, value); \
	} while (0)

SEC("socket") int whole(void *ctx)
{
	TYPE(struct iphdr);
	TYPE(struct iphdr___flavor);
	TYPE(struct not_in_any_kernel);
	TYPE(union nf_inet_addr);
	TYPE(struct nf_inet_addr___wrong_kind);
	TYPE(gfp_t);
	TYPE(atomic_t);
	TYPE(atomic_t___other);
	TYPE(no_such_type_t);
	TYPE(pid_t);
	TYPE(rcu_callback_t);
	TYPE(rcu_callback_t___more);
	TYPE(enum bpf_map_type);
	TYPE(enum blake2b_iv);
	return 0;
}

SEC("socket") int enumerators(void *ctx)
{
	ENUMERATOR(enum bpf_map_type, BPF_MAP_TYPE_ARRAY);
	ENUMERATOR(enum bpf_map_type, BPF_MAP_TYPE_HASH);
	ENUMERATOR(enum bpf_map_type, BPF_MAP_TYPE_LPM_TRIE___flavor);
	ENUMERATOR(enum bpf_map_type, BPF_MAP_TYPE_NONSENSE);
	ENUMERATOR(enum bpf_map_type___few, BPF_MAP_TYPE_HASH___few);
	ENUMERATOR(enum netdev_tx, NETDEV_TX_BUSY);
#if __clang_major__ >= 15 /* before, BTF had no sign and no 64 bits */
	ENUMERATOR(enum netdev_tx, __NETDEV_TX_MIN);
	ENUMERATOR(enum blake2b_iv, BLAKE2B_IV0);
	ENUMERATOR(enum blake2b_iv, BLAKE2B_IV7);
#endif
	ENUMERATOR(enum perf_callchain_context, PERF_CONTEXT_HV);
	ENUMERATOR(enum perf_callchain_context, PERF_CONTEXT_MAX);
	return 0;
}

SEC("socket") int matches(void *ctx)
{
#if __clang_major__ >= 15 /* the first to know TYPE_MATCHES */
	sink = bpf_core_type_matches(struct iphdr);
	sink = bpf_core_type_matches(struct ethhdr___matching);
	sink = bpf_core_type_matches(struct ethhdr___longer);
	sink = bpf_core_type_matches(struct ethhdr___unknown);
	sink = bpf_core_type_matches(struct list_head);
	sink = bpf_core_type_matches(struct hlist_node___matching);
	sink = bpf_core_type_matches(struct hlist_node___value);
	sink = bpf_core_type_matches(struct callback_head___function);
	sink = bpf_core_type_matches(struct callback_head___parameters);
	sink = bpf_core_type_matches(struct callback_head___result);
	sink = bpf_core_type_matches(struct sk_buff___enum);
	sink = bpf_core_type_matches(struct not_in_any_kernel);
	sink = bpf_core_type_matches(gfp_t);
	sink = bpf_core_type_matches(atomic_t);
	sink = bpf_core_type_matches(atomic_t___other);
	sink = bpf_core_type_matches(pid_t);
	sink = bpf_core_type_matches(pid_t___int);
	sink = bpf_core_type_matches(rcu_callback_t);
	sink = bpf_core_type_matches(rcu_callback_t___more);
	sink = bpf_core_type_matches(enum bpf_map_type);
	sink = bpf_core_type_matches(enum bpf_map_type___few);
	sink = bpf_core_type_matches(enum bpf_map_type___wrong);
#endif
	return 0;
}
