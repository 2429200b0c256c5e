// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
/* xdp_count - count packets and bytes per protocol and per verdict, per CPU
 *
 * Hook:    xdp (native, skb)
 * Needs:   Linux 5.3 (bounded loops); frames in one buffer (no xdp.frags)
 * Config:  verdict (enum xdp_action, default XDP_PASS), set before load
 * Maps:    netbpf_protos (per-CPU array, enum netbpf_proto -> packets, bytes)
 *          netbpf_verdicts (per-CPU array, XDP action -> packets, bytes)
 * Verdict: `verdict` for every packet
 */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

#include <netbpf/config.h>
#include <netbpf/protocols.h>
#include <netbpf/stats.h>

NETBPF_DESCRIBE("Verdict for every packet: XDP_PASS watches, XDP_DROP makes a sink")
const volatile enum xdp_action verdict = XDP_PASS;

SEC("xdp")
int xdp_count(struct xdp_md *ctx)
{
	netbpf_count_proto(ctx);
	return netbpf_count(ctx, verdict);
}

char _license[] SEC("license") = "Dual BSD/GPL";
