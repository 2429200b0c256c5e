// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
/*
 * The plain way to replay a capture: one bpf_prog_test_run_opts of libbpf per packet, in C.
 *
 *   replay_loop OBJECT PCAP
 *
 * PCAP is a pcap of this machine's byte order, in whole. Prints the nanoseconds from opening the capture to the last
 * verdict, and on standard error how many packets had which verdict: no start-up, no loading.
 */
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <fcntl.h>
#include <linux/types.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>

enum { FILE_HEADER = 24, VERDICTS = 8 };

struct record {
	__u32 seconds;
	__u32 fraction;
	__u32 captured;
	__u32 length;
};

static void die(const char *what)
{
	perror(what);
	exit(1);
}

static unsigned long long now(void)
{
	struct timespec time;

	clock_gettime(CLOCK_MONOTONIC, &time);
	return time.tv_sec * 1000000000ull + time.tv_nsec;
}

static int load(const char *path)
{
	struct bpf_object *object = bpf_object__open_file(path, NULL);
	struct bpf_program *program;

	if (!object || bpf_object__load(object))
		die(path);
	program = bpf_object__next_program(object, NULL);
	if (!program)
		die("no program");
	return bpf_program__fd(program);
}

static void replay(int prog, const char *path, unsigned long long *verdicts)
{
	int fd = open(path, O_RDONLY);
	const unsigned char *start, *at, *end;
	struct stat status;

	if (fd < 0 || fstat(fd, &status))
		die(path);
	start = mmap(NULL, status.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
	if (start == MAP_FAILED)
		die("mmap");
	end = start + status.st_size;
	for (at = start + FILE_HEADER; at + sizeof(struct record) <= end;) {
		const struct record *record = (const void *)at;
		LIBBPF_OPTS(bpf_test_run_opts, opts);

		at += sizeof(*record);
		opts.data_in = at;
		opts.data_size_in = record->captured;
		if (bpf_prog_test_run_opts(prog, &opts))
			die("bpf_prog_test_run_opts");
		verdicts[opts.retval < VERDICTS ? opts.retval : VERDICTS - 1]++;
		at += record->captured;
	}
}

int main(int argc, char **argv)
{
	unsigned long long verdicts[VERDICTS] = {}, before;
	int prog, verdict;

	if (argc != 3) {
		fprintf(stderr, "usage: replay_loop OBJECT PCAP\n");
		return 2;
	}
	prog = load(argv[1]);
	before = now();
	replay(prog, argv[2], verdicts);
	printf("%llu\n", now() - before);
	for (verdict = 0; verdict < VERDICTS; verdict++)
		fprintf(stderr, "%d: %llu\n", verdict, verdicts[verdict]);
	return 0;
}
