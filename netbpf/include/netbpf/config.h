/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* config.h - describe a program's variables where they are declared
 *
 *	NETBPF_DESCRIBE("Frames shorter than this many bytes are not counted")
 *	__u32 min_bytes = 14;
 *
 * The text travels in the object's BTF as a declaration tag, where netbpf finds it. It costs the
 * running program nothing. A compiler without the attribute (clang before 14, gcc before 16) drops
 * the text and builds the same code. Kernels before 5.16 do not know declaration tags: libbpf (0.6
 * and newer) and netbpf take them out of the BTF they load there.
 *
 * Where to put a setting:
 *	const volatile T x = ...;	.rodata: set before load, then frozen; the verifier knows the
 *					value and removes the code it switches off
 *	T x = ...;			.data: may be written while the program runs
 *	T x;				.bss: the same, starting from zero (so does T x = 0;)
 */
#ifndef NETBPF_CONFIG_H
#define NETBPF_CONFIG_H

#if defined(__has_attribute)
#if __has_attribute(btf_decl_tag)
#define NETBPF_DESCRIBE(text) __attribute__((btf_decl_tag(text)))
#endif
#endif

#ifndef NETBPF_DESCRIBE
#define NETBPF_DESCRIBE(text)
#endif

#endif /* NETBPF_CONFIG_H */
