/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * glibc's <gnu/stubs.h> includes this one wherever __x86_64__ is not defined, as on the bpf target; it is
 * installed with 32-bit development files only. It would name functions that glibc does not implement, which
 * matter to no BPF program. Last on the search path, so the real one is taken where it is installed.
 */
