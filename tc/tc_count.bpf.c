// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
/* tc_count - count packets and bytes per protocol and per verdict, per CPU
 *
 * Hook:    tc ingress, tc egress (clsact in direct-action mode, tcx), Ethernet devices
 * Needs:   Linux 5.3 (bounded loops)
 * Config:  verdict (enum tc_action, default TC_ACT_UNSPEC), set before load
 * Maps:    netbpf_protos (per-CPU array, enum netbpf_proto -> packets, bytes)
 *          netbpf_verdicts (per-CPU array, TC action + 1 -> packets, bytes)
 * Verdict: `verdict` for every packet; TC_ACT_UNSPEC leaves it to the next program or filter, and
 *          lets the packet pass when there is none
 */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

#include <netbpf/config.h>
#include <netbpf/protocols.h>
#include <netbpf/stats.h>

NETBPF_DESCRIBE("Verdict for every packet: TC_ACT_UNSPEC watches, TC_ACT_SHOT makes a sink")
const volatile enum tc_action verdict = TC_ACT_UNSPEC;

SEC("tc")
int tc_count(struct __sk_buff *ctx)
{
	netbpf_count_proto(ctx);
	return netbpf_count(ctx, verdict);
}

char _license[] SEC("license") = "Dual BSD/GPL";
