// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
/* trace_monitor - what goes wrong with XDP, and which packets the kernel drops, for `netbpf monitor`
 *
 * Hook:    tp_btf (xdp_exception, xdp_redirect_err, xdp_bulk_tx, xdp_devmap_xmit, xdp_cpumap_enqueue,
 *          xdp_cpumap_kthread, kfree_skb); each is loaded and attached alone
 * Needs:   Linux 5.13 (prototype of xdp_redirect_err), 5.17 for the reasons of kfree_skb; BTF
 * Config:  only_netns (network namespace, by inode; 0 is all), only_watched (interfaces in `watched`),
 *          drops_anywhere (kfree_skb of every interface), has_rx_sk (kfree_skb's fourth argument)
 * Maps:    tallies (per-CPU hash, what happened -> how often), lost (per-CPU array, kind -> how often
 *          there was no room in tallies), watched (hash, interface -> 1)
 *
 * Counting in maps is exact at any rate: there is no buffer that could overflow. What is in a key has
 * few values. What a sender can choose (indexes, verdicts, protocols) is kept as an example only.
 */
#include <linux/bpf.h>
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_helpers.h>

#include <netbpf/config.h>

#define NAME_SIZE     16
#define FUNCTION_SIZE 48
#define NO_MAP	      0x7fffffff /* INT_MAX: bpf_redirect() and not a map (include/net/xdp.h) */
#define EINVAL	      22
#define LAST_VERDICT  XDP_REDIRECT

/* The fields that are read, of the kernel's types. */
#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)
struct ns_common {
	unsigned int inum;
};
struct net {
	struct ns_common ns;
};
typedef struct {
	struct net *net;
} possible_net_t;
struct net_device {
	int ifindex;
	char name[NAME_SIZE];
	possible_net_t nd_net;
};
struct bpf_prog_aux {
	__u32 id;
	char name[NAME_SIZE];
};
struct bpf_prog {
	struct bpf_prog_aux *aux;
};
struct bpf_dtab_netdev {
	struct net_device *dev;
};
struct xdp_cpumap_stats {
	unsigned int drop;
};
struct sock_common {
	possible_net_t skc_net;
};
struct sock {
	struct sock_common __sk_common;
};
struct sk_buff {
	struct net_device *dev;
	int skb_iif;
	__u16 protocol;
};
#pragma clang attribute pop

enum kind {
	EXCEPTION,
	REDIRECT,
	BULK_TX,
	DEVMAP_XMIT,
	CPUMAP_ENQUEUE,
	CPUMAP_KTHREAD,
	CPUMAP_PROGRAM,
	KFREE_SKB,
	KINDS,
};

struct happened {
	__u32 kind;
	__u32 netns; /* inode number, 0 where there is no interface */
	__u32 ifindex;
	__u32 prog_id;
	__s32 code; /* verdict, negative errno, CPU, or reason */
	__u32 to_netns;
	__u32 to_ifindex;
	__u32 map_id;
	__u64 location; /* address of the code that dropped */
};

struct tally {
	__u64 events;
	__u64 packets;
	__u32 first; /* verdict, index in a map, ifindex, or protocol */
	__u32 last;
	char interface[NAME_SIZE];
	char target[NAME_SIZE];
	char program[NAME_SIZE];
	char function[FUNCTION_SIZE]; /* the code that dropped */
};

struct lost {
	__u64 events;
	__u64 packets;
};

struct place {
	__u32 netns;
	__u32 ifindex;
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_HASH);
	__uint(max_entries, 2048);
	__type(key, struct happened);
	__type(value, struct tally);
} tallies SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, KINDS);
	__type(key, __u32);
	__type(value, struct lost);
} lost SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 16384);
	__type(key, struct place);
	__type(value, __u8);
} watched SEC(".maps");

NETBPF_DESCRIBE("Inode number of the only network namespace that counts; 0 for all")
const volatile __u32 only_netns = 0;
NETBPF_DESCRIBE("Count what concerns interfaces in the map watched, and nothing else")
const volatile _Bool only_watched = 0;
NETBPF_DESCRIBE("Count kfree_skb of every interface, and not of those in the map watched alone")
const volatile _Bool drops_anywhere = 0;
NETBPF_DESCRIBE("Whether kfree_skb tells the socket that a packet was for (Linux 6.11)")
const volatile _Bool has_rx_sk = 0;

static __always_inline struct place place_of(const struct net_device *dev)
{
	struct place place = {};

	if (dev) {
		place.netns = dev->nd_net.net->ns.inum;
		place.ifindex = dev->ifindex;
	}
	return place;
}

static __always_inline _Bool is_watched(struct place place)
{
	return bpf_map_lookup_elem(&watched, &place);
}

static __always_inline _Bool in_scope(struct place place)
{
	if (only_watched)
		return is_watched(place);
	return !only_netns || place.netns == only_netns;
}

static __always_inline void name_of(char *name, const struct net_device *dev)
{
	if (dev)
		bpf_probe_read_kernel_str(name, NAME_SIZE, &dev->name);
}

/* The kernel finds the symbol itself: no /proc/kallsyms, which may be restricted, is needed. */
static const char symbol[] = "%ps";

static __always_inline void lose(__u32 kind, __u64 packets)
{
	struct lost *counted = bpf_map_lookup_elem(&lost, &kind);

	if (counted) {
		__sync_fetch_and_add(&counted->events, 1);
		__sync_fetch_and_add(&counted->packets, packets);
	}
}

/* Atomic though every CPU has a value of its own: an interrupt may come in between. */
static __always_inline void count(const struct happened *key, __u64 packets, __u32 example,
				  const struct net_device *dev, const struct net_device *target,
				  const struct bpf_prog *prog)
{
	struct tally *tally = bpf_map_lookup_elem(&tallies, key);

	if (!tally) {
		struct tally fresh = {.first = example, .last = example};
		__u64 location = key->location;

		name_of(fresh.interface, dev);
		name_of(fresh.target, target);
		if (prog)
			bpf_probe_read_kernel_str(fresh.program, NAME_SIZE, &prog->aux->name);
		if (location)
			bpf_snprintf(fresh.function, FUNCTION_SIZE, symbol, &location, 8);
		/* Another CPU may be first: then its names stay, and this one counts. */
		bpf_map_update_elem(&tallies, key, &fresh, BPF_NOEXIST);
		tally = bpf_map_lookup_elem(&tallies, key);
		if (!tally) {
			lose(key->kind, packets);
			return;
		}
	}
	if (!tally->events)
		tally->first = example;
	tally->last = example;
	__sync_fetch_and_add(&tally->events, 1);
	__sync_fetch_and_add(&tally->packets, packets);
}

SEC("tp_btf/xdp_exception")
int xdp_exception(__u64 *ctx)
{
	const struct net_device *dev = (const void *)ctx[0];
	const struct bpf_prog *prog = (const void *)ctx[1];
	__u32 verdict = ctx[2];
	struct place at = place_of(dev);
	struct happened key = {.kind = EXCEPTION, .netns = at.netns, .ifindex = at.ifindex};

	if (!in_scope(at))
		return 0;
	key.prog_id = prog->aux->id;
	key.code = verdict <= LAST_VERDICT ? (__s32)verdict : -1;
	count(&key, 1, verdict, dev, 0, prog);
	return 0;
}

SEC("tp_btf/xdp_redirect_err")
int xdp_redirect_err(__u64 *ctx)
{
	const struct net_device *dev = (const void *)ctx[0], *target = 0;
	const struct bpf_prog *prog = (const void *)ctx[1];
	const struct bpf_dtab_netdev *entry = (const void *)ctx[2];
	__u32 map_type = ctx[4], map_id = ctx[5], index = ctx[6];
	struct place at = place_of(dev), to = {};
	struct happened key = {.kind = REDIRECT, .netns = at.netns, .ifindex = at.ifindex};

	if ((map_type == BPF_MAP_TYPE_DEVMAP || map_type == BPF_MAP_TYPE_DEVMAP_HASH) && entry) {
		struct net *net = 0;

		target = BPF_CORE_READ(entry, dev);
		to.ifindex = BPF_CORE_READ(target, ifindex);
		net = BPF_CORE_READ(target, nd_net.net);
		to.netns = BPF_CORE_READ(net, ns.inum);
	}
	if (!in_scope(at) && !(to.ifindex && in_scope(to)))
		return 0;
	key.prog_id = prog->aux->id;
	key.code = ctx[3];
	if (map_id != NO_MAP) {
		key.map_id = map_id;
	} else if (key.code != -EINVAL) {
		/* There is an interface of this index; EINVAL says that there is none. */
		to.netns = at.netns;
		to.ifindex = index;
	}
	key.to_netns = to.netns;
	key.to_ifindex = to.ifindex;
	count(&key, 1, index, dev, target, prog);
	return 0;
}

SEC("tp_btf/xdp_bulk_tx")
int xdp_bulk_tx(__u64 *ctx)
{
	const struct net_device *dev = (const void *)ctx[0];
	__s32 drops = ctx[2], error = ctx[3];
	struct place at;

	if (drops <= 0)
		return 0;
	at = place_of(dev);
	if (in_scope(at)) {
		struct happened key = {
			.kind = BULK_TX, .netns = at.netns, .ifindex = at.ifindex, .code = error};

		count(&key, drops, 0, dev, 0, 0);
	}
	return 0;
}

SEC("tp_btf/xdp_devmap_xmit")
int xdp_devmap_xmit(__u64 *ctx)
{
	const struct net_device *dev = (const void *)ctx[0], *target = (const void *)ctx[1];
	__s32 drops = ctx[3], error = ctx[4];
	struct place at, to;

	if (drops <= 0)
		return 0;
	at = place_of(dev);
	to = place_of(target);
	if (in_scope(at) || in_scope(to)) {
		struct happened key = {
			.kind = DEVMAP_XMIT,
			.netns = at.netns,
			.ifindex = at.ifindex,
			.code = error,
			.to_netns = to.netns,
			.to_ifindex = to.ifindex,
		};

		count(&key, drops, 0, dev, target, 0);
	}
	return 0;
}

SEC("tp_btf/xdp_cpumap_enqueue")
int xdp_cpumap_enqueue(__u64 *ctx)
{
	__u32 drops = ctx[2];
	struct happened key = {.kind = CPUMAP_ENQUEUE, .code = ctx[3], .map_id = ctx[0]};

	if (drops)
		count(&key, drops, 0, 0, 0, 0);
	return 0;
}

SEC("tp_btf/xdp_cpumap_kthread")
int xdp_cpumap_kthread(__u64 *ctx)
{
	const struct xdp_cpumap_stats *stats = (const void *)ctx[4];
	__u32 drops = ctx[2], dropped = stats ? stats->drop : 0;
	struct happened key = {
		.kind = CPUMAP_KTHREAD, .code = bpf_get_smp_processor_id(), .map_id = ctx[0]};

	if (drops)
		count(&key, drops, 0, 0, 0, 0);
	if (dropped) {
		key.kind = CPUMAP_PROGRAM;
		count(&key, dropped, 0, 0, 0, 0);
	}
	return 0;
}

SEC("tp_btf/kfree_skb")
int kfree_skb(__u64 *ctx)
{
	const struct sk_buff *skb = (const void *)ctx[0];
	const struct sock *sk = has_rx_sk ? (const void *)ctx[3] : 0;
	const struct net_device *dev = 0;
	struct happened key = {.kind = KFREE_SKB};
	struct place at;

	if (sk) {
		/* In the hands of a socket skb->dev may be other data (dev_scratch). */
		at.netns = sk->__sk_common.skc_net.net->ns.inum;
		at.ifindex = skb->skb_iif;
	} else {
		/* Other data is no valid address: what is read there is 0. */
		dev = skb->dev;
		at = place_of(dev);
	}
	if (!at.ifindex)
		return 0;
	if (drops_anywhere ? !in_scope(at) : !is_watched(at))
		return 0;
	key.netns = at.netns;
	key.ifindex = at.ifindex;
	key.location = ctx[1];
	key.code = ctx[2];
	count(&key, 1, __builtin_bswap16(skb->protocol), dev, 0, 0);
	return 0;
}

char _license[] SEC("license") = "Dual BSD/GPL";
