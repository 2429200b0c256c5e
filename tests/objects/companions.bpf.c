/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* Programs for every hook that is on no interface, beside one that is. */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 16);
	__type(key, __u32);
	__type(value, __u64);
} seen SEC(".maps");

int jumped_to(void *ctx);

struct {
	__uint(type, BPF_MAP_TYPE_PROG_ARRAY);
	__uint(max_entries, 1);
	__uint(key_size, 4);
	__array(values, int(void *));
} jumps SEC(".maps") = { .values = { (void *)&jumped_to } };

const volatile __u64 step = 1;

static __always_inline int count(__u32 index, int verdict)
{
	__u64 *value = bpf_map_lookup_elem(&seen, &index);

	if (value)
		__sync_fetch_and_add(value, step);
	return verdict;
}

SEC("tracepoint/sched/sched_process_exec") int on_tracepoint(void *ctx) { return count(0, 0); }
SEC("raw_tp/sched_process_exec") int on_raw(void *ctx) { return count(1, 0); }
SEC("tp_btf/sched_process_exec") int on_typed(void *ctx) { return count(2, 0); }
SEC("raw_tracepoint/sched_process_exec") int on_jump(void *ctx)
{
	bpf_tail_call(ctx, &jumps, 0);
	return 0;
}
SEC("raw_tp") int jumped_to(void *ctx) { return count(3, 0); }
SEC("cgroup/connect4") int on_connect(void *ctx) { return count(4, 0); }
SEC("cgroup_skb/egress") int on_egress(struct __sk_buff *ctx) { return count(5, 1); }
SEC("socket") int on_socket(struct __sk_buff *ctx) { return count(6, 0); }
SEC("sk_lookup") int on_lookup(void *ctx) { return count(7, 1); }
SEC("iter/task") int on_task(void *ctx) { return count(8, 0); }
SEC("?raw_tp/sched_switch") int only_by_name(void *ctx) { return count(9, 0); }
SEC("xdp") int on_xdp(struct xdp_md *ctx) { return count(10, XDP_PASS); }

char _license[] SEC("license") = "GPL";
