/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* What most programs look like: vmlinux.h, and the macros of bpf_core_read.h. */
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>

volatile __u64 sink;
char _license[] SEC("license") = "Dual BSD/GPL";

SEC("xdp") int read(struct xdp_md *ctx)
{
	struct task_struct *task = (void *)bpf_get_current_task();
	char name[16];

	sink = BPF_CORE_READ(task, pid);
	sink = BPF_CORE_READ(task, real_parent, real_parent, tgid);
	sink = BPF_CORE_READ(task, mm, pgd, pgd);
	sink = BPF_CORE_READ(task, nsproxy, net_ns, loopback_dev, ifindex);
	sink = BPF_CORE_READ_BITFIELD_PROBED(task, sched_reset_on_fork);
	bpf_core_read_str(name, sizeof(name), &task->comm);
	sink = name[0];
	sink = bpf_core_type_size(struct sk_buff);
	sink = bpf_core_type_id_kernel(struct sk_buff);
	sink = bpf_core_enum_value(enum bpf_map_type, BPF_MAP_TYPE_HASH);
	sink = ctx->ingress_ifindex;
	return (void *)(long)ctx->data + 14 > (void *)(long)ctx->data_end ? XDP_DROP : XDP_PASS;
}

SEC("tc") int write(struct __sk_buff *ctx)
{
	ctx->tc_index = ctx->ifindex;
	ctx->cb[2] = ctx->len;
	return ctx->vlan_present ? 2 : 0;
}
