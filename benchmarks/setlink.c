// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
/*
 * The bare kernel call: put a pinned XDP program on interfaces, one RTM_SETLINK each, or take it off.
 *
 *   setlink PIN|off INTERFACE...
 *
 * Prints the nanoseconds that all calls took together: no start-up, no look-up of names, no loading.
 */
#include <errno.h>
#include <linux/bpf.h>
#include <linux/if_link.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

struct request {
	struct nlmsghdr header;
	struct ifinfomsg link;
	struct nlattr xdp;
	struct nlattr fd_head;
	__s32 fd;
	struct nlattr flags_head;
	__u32 flags;
};

static void die(const char *what)
{
	perror(what);
	exit(1);
}

static int open_pin(const char *path)
{
	union bpf_attr attr = {.pathname = (__u64)(unsigned long)path};
	int fd = syscall(__NR_bpf, BPF_OBJ_GET, &attr, sizeof(attr));

	if (fd < 0)
		die(path);
	return fd;
}

static struct request make(unsigned int ifindex, int fd)
{
	return (struct request){
		.header = {.nlmsg_len = sizeof(struct request),
			   .nlmsg_type = RTM_SETLINK,
			   .nlmsg_flags = NLM_F_REQUEST | NLM_F_ACK},
		.link = {.ifi_index = ifindex},
		.xdp = {.nla_len = sizeof(struct request) - offsetof(struct request, xdp),
			.nla_type = IFLA_XDP | NLA_F_NESTED},
		.fd_head = {.nla_len = sizeof(struct nlattr) + sizeof(__s32),
			    .nla_type = IFLA_XDP_FD},
		.fd = fd,
		.flags_head = {.nla_len = sizeof(struct nlattr) + sizeof(__u32),
			       .nla_type = IFLA_XDP_FLAGS},
		.flags = XDP_FLAGS_DRV_MODE | (fd >= 0 ? XDP_FLAGS_UPDATE_IF_NOEXIST : 0),
	};
}

static void set(int sock, const struct request *request)
{
	struct {
		struct nlmsghdr header;
		struct nlmsgerr error;
		char rest[512];
	} answer;

	if (send(sock, request, sizeof(*request), 0) < 0)
		die("send");
	if (recv(sock, &answer, sizeof(answer), 0) < 0)
		die("recv");
	if (answer.error.error) {
		errno = -answer.error.error;
		die("RTM_SETLINK");
	}
}

int main(int argc, char **argv)
{
	int count = argc - 2, sock, fd, i;
	struct timespec start, end;
	struct request *requests;

	if (count < 1) {
		fprintf(stderr, "usage: setlink PIN|off INTERFACE...\n");
		return 2;
	}
	fd = strcmp(argv[1], "off") ? open_pin(argv[1]) : -1;
	sock = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE);
	requests = calloc(count, sizeof(*requests));
	if (sock < 0 || !requests)
		die("setlink");
	for (i = 0; i < count; i++) {
		unsigned int ifindex = if_nametoindex(argv[i + 2]);

		if (!ifindex)
			die(argv[i + 2]);
		requests[i] = make(ifindex, fd);
	}
	clock_gettime(CLOCK_MONOTONIC, &start);
	for (i = 0; i < count; i++)
		set(sock, &requests[i]);
	clock_gettime(CLOCK_MONOTONIC, &end);
	printf("%lld\n", (end.tv_sec - start.tv_sec) * 1000000000LL + end.tv_nsec - start.tv_nsec);
	return 0;
}
