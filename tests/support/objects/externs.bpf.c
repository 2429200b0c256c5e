/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* What the kernel has by name: its configuration, its functions, its variables; and what it lacks, weakly. */
#include "check.h"

enum tristate { NO = 0, YES = 1, MODULE = 2 };

extern int LINUX_KERNEL_VERSION __kconfig;
extern _Bool CONFIG_BPF_SYSCALL __kconfig;
extern enum libbpf_tristate CONFIG_BPF_JIT __kconfig __weak;
extern char CONFIG_NET __kconfig;
extern unsigned int CONFIG_HZ __kconfig;
extern char CONFIG_DEFAULT_HOSTNAME[16] __kconfig __weak;
extern int CONFIG_NETBPF_IS_NOT_THERE __kconfig __weak;

extern const void __per_cpu_start __ksym __weak;
extern const int netbpf_is_not_there __ksym __weak;

struct xdp_buff;
extern void *bpf_cast_to_kern_ctx(void *ctx) __ksym;
extern void *bpf_rdonly_cast(const void *obj, __u32 btf_id) __ksym;
extern int bpf_netbpf_is_not_there(void *ctx) __ksym __weak;

SEC("xdp")
int config(struct xdp_md *ctx)
{
	if (LINUX_KERNEL_VERSION < 0x050400 || !CONFIG_BPF_SYSCALL || CONFIG_HZ < 100 || CONFIG_NET != 'y')
		return BAD;
	return CONFIG_NETBPF_IS_NOT_THERE == 0 && CONFIG_DEFAULT_HOSTNAME[15] == 0 ? GOOD : BAD;
}

SEC("xdp")
int jit(struct xdp_md *ctx)
{
	return CONFIG_BPF_JIT <= TRI_MODULE ? GOOD : BAD;
}

SEC("xdp")
int symbols(struct xdp_md *ctx)
{
	return &netbpf_is_not_there == 0 ? GOOD : BAD;
}

SEC("tc")
int functions(struct __sk_buff *ctx)
{
	return bpf_cast_to_kern_ctx(ctx) ? GOOD : BAD;
}

SEC("tc")
int weak_function(struct __sk_buff *ctx)
{
	if (bpf_netbpf_is_not_there)
		return bpf_netbpf_is_not_there(ctx);
	return GOOD;
}
