// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
/* tc_drop - drop packets by address prefix, protocol, port and source MAC
 *
 * Hook:    tc ingress, tc egress (clsact in direct-action mode, tcx), Ethernet devices
 * Needs:   Linux 5.3 (bounded loops)
 * Config:  policy (enum filter_action, default PASS), keep_link (bool, default true),
 *          drop_malformed (bool, default true); all may change while running
 * Maps:    src4, dst4, src6, dst6 (LPM tries), proto, tcp_sport, tcp_dport, udp_sport, udp_dport
 *          (arrays), src_mac (hash): rules, written by user space
 *          hits (per-CPU array, rule number -> packets, bytes)
 *          exceptions (per-CPU array, one entry)
 *          netbpf_verdicts (per-CPU array, TC action + 1 -> packets, bytes)
 * Verdict: TC_ACT_SHOT or TC_ACT_UNSPEC (the next program or filter decides, else the packet
 *          passes), by the matching rule with the lowest number, else by `policy`
 */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

#include <netbpf/filter.h>
#include <netbpf/stats.h>

SEC("tc")
int tc_drop(struct __sk_buff *ctx)
{
	enum filter_action action;
	__u64 best = 0;
	int walk = NETBPF_TRUNCATED;

	/* At most twice: as it comes, and once more after pulling. Unrolled it would only be longer. */
#pragma clang loop unroll(disable)
	for (int i = 0; i < 2; i++) {
		walk = filter_walk((void *)(long)ctx->data, (void *)(long)ctx->data_end, &best);
		if (walk != NETBPF_TRUNCATED || i || !netbpf_pull(ctx))
			break;
	}
	action = filter_decide(walk, best, netbpf_frame_len(ctx));
	return netbpf_count(ctx, action == DROP ? TC_ACT_SHOT : TC_ACT_UNSPEC);
}

char _license[] SEC("license") = "Dual BSD/GPL";
