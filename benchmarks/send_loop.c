// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
/*
 * The plain way to send a capture: sendmmsg(2) on a packet socket, 1024 packets a call, in C.
 *
 *   send_loop INTERFACE PCAP
 *
 * PCAP is a pcap of this machine's byte order, in whole. Prints the nanoseconds from opening the capture to the last
 * packet.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <linux/if_packet.h>
#include <net/if.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>

enum { FILE_HEADER = 24, MOST = 1024 };

struct record {
	uint32_t seconds;
	uint32_t fraction;
	uint32_t captured;
	uint32_t length;
};

static void die(const char *what)
{
	perror(what);
	exit(1);
}

static uint64_t now(void)
{
	struct timespec time;

	clock_gettime(CLOCK_MONOTONIC, &time);
	return time.tv_sec * 1000000000ull + time.tv_nsec;
}

static void send_all(int fd, struct mmsghdr *messages, int count)
{
	int done = 0;

	while (done < count) {
		int sent = sendmmsg(fd, messages + done, count - done, 0);

		if (sent < 0)
			die("sendmmsg");
		done += sent;
	}
}

int main(int argc, char **argv)
{
	static struct mmsghdr messages[MOST];
	static struct iovec vectors[MOST];
	struct sockaddr_ll address = { .sll_family = AF_PACKET };
	struct stat status;
	uint64_t start;
	size_t at = FILE_HEADER;
	uint8_t *file;
	int fd, capture, count = 0;

	if (argc != 3)
		return 2;
	fd = socket(AF_PACKET, SOCK_RAW, 0);
	address.sll_ifindex = if_nametoindex(argv[1]);
	if (fd < 0 || bind(fd, (struct sockaddr *)&address, sizeof(address)))
		die(argv[1]);
	for (int i = 0; i < MOST; i++)
		messages[i].msg_hdr = (struct msghdr){ .msg_iov = &vectors[i], .msg_iovlen = 1 };

	start = now();
	capture = open(argv[2], O_RDONLY);
	if (capture < 0 || fstat(capture, &status))
		die(argv[2]);
	file = mmap(NULL, status.st_size, PROT_READ, MAP_PRIVATE, capture, 0);
	if (file == MAP_FAILED)
		die("mmap");
	while (at + sizeof(struct record) <= (size_t)status.st_size) {
		struct record *record = (struct record *)(file + at);

		vectors[count].iov_base = record + 1;
		vectors[count++].iov_len = record->captured;
		at += sizeof(*record) + record->captured;
		if (count == MOST) {
			send_all(fd, messages, count);
			count = 0;
		}
	}
	send_all(fd, messages, count);
	printf("%llu\n", (unsigned long long)(now() - start));
	return 0;
}
