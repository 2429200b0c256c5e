/* SPDX-License-Identifier: BSD-2-Clause */
/* As stubs-32.h: glibc's <gnu/stubs.h> on AArch64 takes the bpf target for a big-endian one. */
