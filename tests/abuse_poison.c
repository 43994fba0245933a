/* SPDX-License-Identifier: MIT */
/*
 * abuse_poison.c - writes into what is free, where allocators keep their
 * lists: whatever is written there, no block may be handed out twice, nor any
 * that the writer chose, and nothing may crash.
 */
#include <config.h>

#include "abuse.h"
#include "must.h"

#include <stdlib.h>
#include <string.h>

static const struct abuse_kind kinds[] = {{"16", 16, 0},
					  {"64", 64, 0},
					  {"1000", 1000, 0},
					  {"20000", 20000, 0},
					  {"200000", 200000, 0}};

/* Where what is free waits when it is written to. */
enum where {
	BIN,    /* freed last, by who allocates */
	REMOTE, /* freed by another thread */
	SLAB,   /* so many that they went back to where they came from */
	WHERES
};

enum what {
	TO_STATIC,
	TO_LIVE,
	TO_FREE,
	TO_ITSELF,
	INSIDE,
	GARBAGE,
	ZERO,
	ONE,
	SMALL,
	ONES,
	WHATS
};

enum { FIRST = 0, SECOND = 1, BOTH = 2, ALL = 3, LAST = 4 };

static _Alignas(64) char a_static[4096];

static uintptr_t value_of(enum what what, char *p, char *live, char *other)
{
	switch (what) {
	case TO_STATIC:
		return (uintptr_t)a_static + 1024;
	case TO_LIVE:
		return (uintptr_t)live;
	case TO_FREE:
		return (uintptr_t)other;
	case TO_ITSELF:
		return (uintptr_t)p;
	case INSIDE:
		return (uintptr_t)live + 8;
	case GARBAGE:
		return (uintptr_t)UINT64_C(0x4141414141414141);
	case ZERO:
		return 0;
	case ONE:
		return 1;
	case SMALL:
		return 3;
	default:
		return UINTPTR_MAX;
	}
}

static void poison_words(char *p, size_t size, int words, uintptr_t value)
{
	uintptr_t both[] = {value, value};
	size_t i;

	switch (words) {
	case FIRST:
	case SECOND:
		abuse_write(p + (size_t)words * sizeof(value), &value,
			    sizeof(value));
		break;
	case BOTH:
		abuse_write(p, both, sizeof(both));
		break;
	case LAST:
		abuse_write(p + size / 8 * 8 - sizeof(value), &value,
			    sizeof(value));
		break;
	default:
		for (i = 0; i + sizeof(value) <= size; i += sizeof(value))
			abuse_write(p + i, &value, sizeof(value));
	}
}

static void *put_odd(void *arg)
{
	char **p = arg;

	while (p[0] != NULL && p[1] != NULL) {
		abuse_put(p[1]);
		p += 2;
	}
	return NULL;
}

/* Every second block is free; and many more, so that lists run over. */
static char **prepare(const struct abuse_kind *kind, enum where where)
{
	unsigned n = kind->size > 65536 ? 12 : 60;
	char **p;

	abuse_guard(a_static, sizeof(a_static));
	if (where == SLAB) {
		n = kind->size > 4096 ? 24 : 240;
		p = abuse_fill(kind, n);
		put_odd(p);
		/* What the thread keeps, others have to. */
		abuse_trim();
		return p;
	}
	p = abuse_fill(kind, n);
	if (where == REMOTE)
		abuse_in_thread(put_odd, p);
	else
		put_odd(p);
	return p;
}

static void poison(const struct abuse_kind *kind, int arg)
{
	enum where where = (enum where)(arg % WHERES);
	enum what what = (enum what)(arg / WHERES % WHATS);
	int words = arg / WHERES / WHATS;
	char **p = prepare(kind, where);
	char **q;

	for (q = p; q[0] != NULL && q[1] != NULL && q[2] != NULL; q += 2)
		poison_words(q[1], kind->size, words,
			     value_of(what, q[1], q[0],
				      q[3] != NULL ? q[3] : q[1]));
	abuse_go_on(kind);
}

/* What one free block holds is written into another: each is genuine. */
static void replay(const struct abuse_kind *kind, int where)
{
	char **p = prepare(kind, (enum where)where);
	char copy[16];
	char **q;

	abuse_write(copy, p[1], sizeof(copy));
	for (q = p; q[0] != NULL && q[1] != NULL; q += 2)
		abuse_write(q[1], copy, sizeof(copy));
	abuse_go_on(kind);
}

/* What was there when it was free is written back when it is again. */
static void replay_old(const struct abuse_kind *kind, int where)
{
	static char copies[128][16];
	char **p = prepare(kind, (enum where)where);
	unsigned n = 0;
	char **q;

	for (q = p; q[0] != NULL && q[1] != NULL; q += 2)
		abuse_write(copies[n++], q[1], 16);
	abuse_go_on(kind);
	n = 0;
	for (q = p; q[0] != NULL && q[1] != NULL; q += 2)
		abuse_write(q[1], copies[n++], 16);
	abuse_go_on(kind);
}

#define ARG(words, what, where) (((words) * WHATS + (what)) * WHERES + (where))
#define IN_ALL(name, words, what) \
	{"bin-" name, poison, ARG(words, what, BIN)}, \
		{"remote-" name, poison, ARG(words, what, REMOTE)}, \
		{"slab-" name, poison, ARG(words, what, SLAB)}

static const struct abuse_action actions[] = {
	IN_ALL("first-to-static", FIRST, TO_STATIC),
	IN_ALL("first-to-live", FIRST, TO_LIVE),
	IN_ALL("first-to-free", FIRST, TO_FREE),
	IN_ALL("first-to-itself", FIRST, TO_ITSELF),
	IN_ALL("first-inside", FIRST, INSIDE),
	IN_ALL("first-garbage", FIRST, GARBAGE),
	IN_ALL("first-zero", FIRST, ZERO),
	IN_ALL("first-one", FIRST, ONE),
	IN_ALL("first-small", FIRST, SMALL),
	IN_ALL("first-ones", FIRST, ONES),
	IN_ALL("second-zero", SECOND, ZERO),
	IN_ALL("second-to-live", SECOND, TO_LIVE),
	IN_ALL("both-to-static", BOTH, TO_STATIC),
	IN_ALL("both-zero", BOTH, ZERO),
	IN_ALL("all-garbage", ALL, GARBAGE),
	IN_ALL("all-to-live", ALL, TO_LIVE),
	IN_ALL("last-to-static", LAST, TO_STATIC),
	{"bin-replay", replay, BIN},
	{"remote-replay", replay, REMOTE},
	{"slab-replay", replay, SLAB},
	{"bin-replay-old", replay_old, BIN},
	{"slab-replay-old", replay_old, SLAB},
};

const struct abuse_suite abuse_poison =
	ABUSE_SUITE("poison", actions, kinds, false);
