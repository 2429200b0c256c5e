/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* Fields of kernel structs, declared here in another order, with other sizes, or not there at all. */
#include "lookup.h"

struct iphdr {
	__u32 daddr;
	__u32 saddr; /* order */
	__u8 version : 4, ihl : 4; /* bitfields the other way round */
	__u64 protocol; /* size */
	__u32 nothing; /* not in the kernel */
	struct {
		__u32 saddr, daddr;
	} inner; /* not a field of that name */
} KERNEL;

struct task_struct {
	int tgid;
	int pid;
	char comm[64];
	struct task_struct *real_parent;
	int sched_reset_on_fork : 1;
	unsigned int in_execve : 1;
	long exit_state; /* signed, and larger than the kernel's */
	unsigned long flags; /* unsigned, and larger */
	__u16 start_time; /* unsigned, and smaller */
} KERNEL;

struct task_struct___renamed {
	int pid_of_old;
	struct mm_struct *mm;
} KERNEL;

struct mm_struct {
	struct {
		struct {
			unsigned long brk;
		};
		unsigned long start_brk;
	};
} KERNEL;

struct sk_buff {
	unsigned char pkt_type : 2;
	unsigned char cloned : 7;
	__u64 nf_trace : 33;
	__u32 hash;
	__u16 protocol;
	union {
		__u32 mark;
		struct net_device *dev;
	};
	char cb[8];
	unsigned char *data;
} KERNEL;

struct net_device {
	char name[4];
	int ifindex;
} KERNEL;

struct upid {
	struct pid_namespace *ns;
	int nr;
} KERNEL;

struct pid {
	unsigned int level;
	struct upid numbers[]; /* flexible here and there */
} KERNEL;

struct group_info {
	int ngroups;
	struct {
		unsigned int val;
	} gid[4]; /* flexible there only */
} KERNEL;

SEC("socket") int order(void *ctx)
{
	struct iphdr *ip = ctx;

	ALL_OF(ip->daddr);
	ALL_OF(ip->saddr);
	ALL_OF(ip->protocol);
	PLACE_OF(ip[2].saddr);
	return 0;
}

SEC("socket") int bitfields(void *ctx)
{
	struct iphdr *ip = ctx;
	struct sk_buff *skb = ctx;
	struct task_struct *task = ctx;

	ALL_OF(ip->version);
	ALL_OF(ip->ihl);
	ALL_OF(skb->pkt_type);
	ALL_OF(skb->cloned);
	ALL_OF(skb->nf_trace);
	ALL_OF(task->sched_reset_on_fork);
	ALL_OF(task->in_execve);
	return 0;
}

SEC("socket") int missing(void *ctx)
{
	struct iphdr *ip = ctx;
	struct task_struct___renamed *task = ctx;

	if (bpf_core_field_exists(ip->nothing))
		ALL_OF(ip->nothing);
	if (bpf_core_field_exists(ip->inner.saddr))
		ALL_OF(ip->inner.saddr);
	if (bpf_core_field_exists(task->pid_of_old))
		ALL_OF(task->pid_of_old);
	PLACE_OF(task->mm);
	return 0;
}

SEC("socket") int nested(void *ctx)
{
	struct mm_struct *mm = ctx;
	struct sk_buff *skb = ctx;

	PLACE_OF(mm->brk);
	PLACE_OF(mm->start_brk);
	ALL_OF(skb->hash);
	ALL_OF(skb->protocol);
	PLACE_OF(skb->dev);
	PLACE_OF(skb->mark);
	return 0;
}

SEC("socket") int arrays(void *ctx)
{
	struct task_struct *task = ctx;
	struct net_device *dev = ctx;
	struct sk_buff *skb = ctx;
	struct pid *pid = ctx;
	struct group_info *groups = ctx;

	PLACE_OF(task->comm);
	PLACE_OF(task->comm[3]);
	PLACE_OF(task->comm[15]);
	if (bpf_core_field_exists(task->comm[16])) /* the kernel's has 16 */
		FIELD(BYTE_OFFSET, task->comm[16]);
	PLACE_OF(dev->name);
	PLACE_OF(dev->name[3]);
	PLACE_OF(skb->cb[7]);
	PLACE_OF(pid->numbers[0]);
	PLACE_OF(pid->numbers[9].nr);
	PLACE_OF(groups->gid[3]);
	return 0;
}

/* Reads and writes by instructions that hold the offset: their size follows the field, where it can. */
SEC("socket") int loads(void *ctx)
{
	struct task_struct *task = ctx;
	struct iphdr *ip = ctx;
	struct sk_buff *skb = ctx;

	sink = task->pid;
	sink = task->tgid;
	sink = task->flags;
	sink = task->start_time;
	sink = task->comm[1];
	sink = ip->protocol;
	sink = ip->daddr;
	sink = (unsigned long)skb->data;
	sink = (unsigned long)task->real_parent->real_parent;
	return 0;
}

SEC("socket") int signed_load(void *ctx)
{
	struct task_struct *task = ctx;

	sink = task->exit_state;
	return 0;
}

SEC("socket") int stores(void *ctx)
{
	struct iphdr *ip = ctx;
	struct sk_buff *skb = ctx;
	struct task_struct *task = ctx;

	ip->daddr = sink;
	ip->protocol = sink;
	ip->saddr = 7;
	task->start_time = 9;
	task->flags = 5;
	skb->hash = 1;
	return 0;
}
