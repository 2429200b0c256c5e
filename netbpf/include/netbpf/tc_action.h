/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* tc_action.h - the TC_ACT_* verdicts as an enum
 *
 * <linux/pkt_cls.h> has them as macros, which leave no trace in BTF. As an enum, a setting of type
 * `enum tc_action` is written and shown by name: `--set verdict=TC_ACT_SHOT`. The macros are
 * replaced, so that the names keep working in C; only `#if TC_ACT_...` no longer does.
 */
#ifndef NETBPF_TC_ACTION_H
#define NETBPF_TC_ACTION_H

#include <linux/pkt_cls.h>

#undef TC_ACT_UNSPEC
#undef TC_ACT_OK
#undef TC_ACT_RECLASSIFY
#undef TC_ACT_SHOT
#undef TC_ACT_PIPE
#undef TC_ACT_STOLEN
#undef TC_ACT_QUEUED
#undef TC_ACT_REPEAT
#undef TC_ACT_REDIRECT
#undef TC_ACT_TRAP

enum tc_action {
	TC_ACT_UNSPEC = -1,
	TC_ACT_OK = 0,
	TC_ACT_RECLASSIFY = 1,
	TC_ACT_SHOT = 2,
	TC_ACT_PIPE = 3,
	TC_ACT_STOLEN = 4,
	TC_ACT_QUEUED = 5,
	TC_ACT_REPEAT = 6,
	TC_ACT_REDIRECT = 7,
	TC_ACT_TRAP = 8,
};

#endif /* NETBPF_TC_ACTION_H */
