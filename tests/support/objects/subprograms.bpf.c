/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* Calls: static, global, weak and hidden, shared by programs, deep, between sections, in an order of their own. */
#include "check.h"

static noinline int leaf(int x)
{
	return opaque(x) + 1;
}

static noinline int middle(int x)
{
	return leaf(x) + leaf(x + 1);
}

noinline int outer(int x)
{
	return middle(opaque(x)) + leaf(x);
}

__weak noinline int weakly(int x)
{
	return leaf(opaque(x)) * 2;
}

__hidden noinline int hidden(int x)
{
	return middle(opaque(x)) * 3;
}

SEC("tc")
int callee(struct __sk_buff *ctx)
{
	return outer(opaque(1)) == 7 ? GOOD : BAD;
}

/* leaf first, then what contains it: the order of functions is that of first calls. */
SEC("xdp")
int first(struct xdp_md *ctx)
{
	int a = leaf(opaque(0)), b = outer(opaque(0)), c = weakly(opaque(2)), d = hidden(opaque(1));

	return a == 1 && b == 4 && c == 6 && d == 15 ? GOOD : BAD;
}

SEC("xdp")
int second(struct xdp_md *ctx)
{
	int d = hidden(opaque(1)), a = leaf(opaque(4));

	return a == 5 && d == 15 ? GOOD : BAD;
}

static noinline int d1(int x) { return opaque(x) + 1; }
static noinline int d2(int x) { return d1(opaque(x)) + 1; }
static noinline int d3(int x) { return d2(opaque(x)) + 1; }
static noinline int d4(int x) { return d3(opaque(x)) + 1; }
static noinline int d5(int x) { return d4(opaque(x)) + 1; }
static noinline int d6(int x) { return d5(opaque(x)) + 1; }

SEC("xdp")
int deep(struct xdp_md *ctx)
{
	return d6(opaque(1)) == GOOD ? GOOD : BAD;
}
