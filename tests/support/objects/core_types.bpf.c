/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* BTF of every kind that clang writes: floats, 64-bit enums, tags, bitfields, unions, pointers, arrays of arrays. */
#include "check.h"

#define TAG(text) __attribute__((btf_decl_tag(text)))

enum small { NOTHING = -1, SOMETHING = 3 };
enum large { HUGE = 0x1234567890ULL };

struct TAG("described") packed_bits {
	unsigned int a : 3, b : 5, c : 24;
	int TAG("signed") negative : 7;
	union {
		__u8 bytes[4];
		__u32 word;
	};
} __attribute__((packed));

typedef struct packed_bits bits_t;
typedef int matrix_t[3][4];

enum small small = SOMETHING;
enum large large = HUGE;
volatile bits_t bits TAG("settings") = { 1, 2, 3, -4, { .word = 5 } };
matrix_t matrix = { { 1, 2, 3, 4 }, { 5, 6, 7, 8 } };
void *pointer;
double ratio = 0.5;
__int128 wide = 3;
_Bool flag = 1;

SEC("xdp")
int types(struct xdp_md *ctx)
{
	return small == SOMETHING && large == HUGE && bits.b == 2 && bits.negative == -4 && matrix[1][2] == 7 &&
			       !pointer && flag ?
		       GOOD :
		       BAD;
}
