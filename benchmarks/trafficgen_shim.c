// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
/*
 * Lets xdp-trafficgen 1.3.1 run on kernels that are newer than it, and times it: LD_PRELOAD this.
 *
 * - Its programs on tracepoints that the kernel has no more (xdp_redirect_map_err) are left out.
 * - The packet of 4 bytes, by which it asks whether there are live frames, gets 64: Linux wants 14 now.
 * - At its end the nanoseconds that it spent in BPF_PROG_TEST_RUN are printed, without start-up and loading.
 */
#define _GNU_SOURCE
#include <bpf/bpf.h>
#include <bpf/btf.h>
#include <bpf/libbpf.h>
#include <dlfcn.h>
#include <linux/bpf.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

static unsigned long long spent;

static unsigned long long now(void)
{
	struct timespec time;

	clock_gettime(CLOCK_MONOTONIC, &time);
	return time.tv_sec * 1000000000ull + time.tv_nsec;
}

static void leave_out(struct bpf_object *object)
{
	struct btf *kernel = btf__load_vmlinux_btf();
	struct bpf_program *program;
	char name[128];

	bpf_object__for_each_program(program, object) {
		const char *section = bpf_program__section_name(program);

		if (strncmp(section, "tp_btf/", 7))
			continue;
		snprintf(name, sizeof(name), "btf_trace_%s", section + 7);
		if (btf__find_by_name_kind(kernel, name, BTF_KIND_TYPEDEF) < 0)
			bpf_program__set_autoload(program, 0);
	}
	btf__free(kernel);
}

int bpf_object__load_skeleton(struct bpf_object_skeleton *skeleton)
{
	int (*real)(struct bpf_object_skeleton *) = dlsym(RTLD_NEXT, "bpf_object__load_skeleton");

	leave_out(*skeleton->obj);
	return real(skeleton);
}

int bpf_object__load(struct bpf_object *object)
{
	int (*real)(struct bpf_object *) = dlsym(RTLD_NEXT, "bpf_object__load");

	leave_out(object);
	return real(object);
}

int bpf_prog_test_run_opts(int fd, struct bpf_test_run_opts *options)
{
	int (*real)(int, struct bpf_test_run_opts *) = dlsym(RTLD_NEXT, "bpf_prog_test_run_opts");
	static char packet[64];
	unsigned long long start;
	int error;

	if (options->data_size_in < 14) {
		struct xdp_md *context = (struct xdp_md *)options->ctx_in;

		options->data_in = packet;
		options->data_size_in = sizeof(packet);
		if (context)
			context->data_end = context->data + sizeof(packet);
		return real(fd, options);
	}
	start = now();
	error = real(fd, options);
	spent += now() - start;
	return error;
}

__attribute__((destructor)) static void tell(void)
{
	fprintf(stderr, "spent %llu\n", spent);
}
