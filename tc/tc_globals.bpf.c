// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
/* tc_globals - the smallest example of variables: counters, a live setting, fixed settings
 *
 * Hook:    tc ingress, tc egress (clsact in direct-action mode, tcx)
 * Needs:   Linux 5.2 (global variables)
 * Config:  verdict (enum tc_action, default TC_ACT_UNSPEC), set before load
 *          bucket_bytes (u64, default 256), set before load
 *          min_bytes (u32, default 14), may change while running
 * Maps:    none but the variables: .bss (packets, sizes), .data (min_bytes), .rodata (the rest)
 * Verdict: `verdict` for every packet; TC_ACT_UNSPEC leaves it to the next program or filter
 */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

#include <netbpf/config.h>
#include <netbpf/tc_action.h>

#define BUCKETS 8

NETBPF_DESCRIBE("Verdict for every packet")
const volatile enum tc_action verdict = TC_ACT_UNSPEC;

NETBPF_DESCRIBE("Width of one entry of sizes, in bytes")
const volatile __u64 bucket_bytes = 256;

NETBPF_DESCRIBE("Frames shorter than this many bytes are not counted")
__u32 min_bytes = 14; /* an initial 0 would put it into .bss */

NETBPF_DESCRIBE("Frames counted")
__u64 packets;

NETBPF_DESCRIBE("Frames counted by length; the last entry takes everything longer")
__u64 sizes[BUCKETS];

SEC("tc")
int tc_globals(struct __sk_buff *ctx)
{
	__u64 len = ctx->len;
	__u64 bucket;

	if (len < min_bytes)
		return verdict;

	/* All CPUs share the variables, so additions are atomic. netbpf/stats.h shows the counters
	 * to use where every nanosecond counts: one copy per CPU.
	 */
	__sync_fetch_and_add(&packets, 1);
	bucket = len / bucket_bytes; /* BPF defines x / 0 as 0 */
	if (bucket >= BUCKETS)
		bucket = BUCKETS - 1;
	__sync_fetch_and_add(&sizes[bucket], 1);
	return verdict;
}

char _license[] SEC("license") = "Dual BSD/GPL";
