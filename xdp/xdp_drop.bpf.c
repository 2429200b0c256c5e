// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
/* xdp_drop - drop packets by address prefix, protocol, port and source MAC
 *
 * Hook:    xdp (native, skb)
 * Needs:   Linux 5.3 (bounded loops); frames in one buffer (no xdp.frags)
 * Config:  policy (enum filter_action, default PASS), keep_link (bool, default true),
 *          drop_malformed (bool, default true); all may change while running
 * Maps:    src4, dst4, src6, dst6 (LPM tries), proto, tcp_sport, tcp_dport, udp_sport, udp_dport
 *          (arrays), src_mac (hash): rules, written by user space
 *          hits (per-CPU array, rule number -> packets, bytes)
 *          exceptions (per-CPU array, one entry)
 *          netbpf_verdicts (per-CPU array, XDP action -> packets, bytes)
 * Verdict: XDP_DROP or XDP_PASS, by the matching rule with the lowest number, else by `policy`
 */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

#include <netbpf/filter.h>
#include <netbpf/stats.h>

SEC("xdp")
int xdp_drop(struct xdp_md *ctx)
{
	enum filter_action action;
	__u64 best;
	int walk;

	walk = filter_walk((void *)(long)ctx->data, (void *)(long)ctx->data_end, &best);
	action = filter_decide(walk, best, netbpf_frame_len(ctx));
	return netbpf_count(ctx, action == DROP ? XDP_DROP : XDP_PASS);
}

char _license[] SEC("license") = "Dual BSD/GPL";
