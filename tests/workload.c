/* SPDX-License-Identifier: MIT */
/*
 * workload.c - correct random operations whose every effect is checked.
 *
 * Uses no memory of its own but what it is given, and nothing of libc's
 * malloc.
 */
#include <config.h>

#include "workload.h"

#include "must.h"

#include <osmem.h>
#include <stdlib.h>
#include <string.h>

enum { DENSE = 512, STRIDE = 4096, ERRNO_BEFORE = 4242 };

void workload_start(struct workload *w, uint64_t seed)
{
	memset(w, 0, sizeof(*w));
	w->state = seed * UINT64_C(0x9e3779b97f4a7c15) + 1;
	w->largest = 300000;
}

size_t workload_draw(struct workload *w, size_t limit)
{
	w->state = w->state * UINT64_C(6364136223846793005) +
		   UINT64_C(1442695040888963407);
	return (size_t)((w->state >> 33) % limit);
}

/* --- the pattern --- */

/* The next place that carries the pattern, after i. */
static size_t next_place(size_t size, size_t i)
{
	if (i + 1 < DENSE || i + 1 + DENSE >= size)
		return i + 1;
	i = (i / STRIDE + 1) * STRIDE;
	return i + DENSE < size ? i : size - DENSE;
}

static unsigned char byte_at(size_t i, unsigned char tag)
{
	return (unsigned char)(tag + i * 7 + (i >> 8));
}

void workload_fill(unsigned char *p, size_t size, unsigned char tag)
{
	size_t i;

	for (i = 0; i < size; i = next_place(size, i))
		p[i] = byte_at(i, tag);
}

bool workload_holds(const unsigned char *p, size_t size, unsigned char tag,
		    size_t first)
{
	size_t i;

	for (i = 0; i < size && i < first; i = next_place(size, i))
		if (p[i] != byte_at(i, tag))
			return false;
	return true;
}

/* --- the operations --- */

static size_t draw_size(struct workload *w)
{
	static const size_t limits[] = {16,   64,    64,    512,    512,
					4000, 20000, 70000, 140000, 300000};
	size_t limit = limits[workload_draw(w, 10)];
	/* At the edges of the calloc rule and of the threshold, too. */
	static const size_t edges[] = {4056,   4064,   4072,
				       131032, 131040, 131048};

	if (workload_draw(w, 16) == 0)
		limit = edges[workload_draw(w, 6)];
	else
		limit = 1 + workload_draw(w, limit);
	return limit < w->largest ? limit : w->largest;
}

static void look(const struct workload_slot *s)
{
	MUST(workload_holds(s->p, s->size, s->tag, s->size));
	MUST_EQ(os_malloc_usable_size(s->p), s->usable);
}

static void look_at_all(struct workload *w)
{
	size_t i;

	for (i = 0; i < WORKLOAD_SLOTS; i++)
		if (w->slots[i].p != NULL)
			look(&w->slots[i]);
}

/* A request came back empty-handed: nothing else may have changed. */
static void failed(struct workload *w)
{
	MUST(w->may_fail);
	MUST(errno == ENOMEM);
	w->failures++;
	look_at_all(w);
}

static void settle(struct workload *w, struct workload_slot *s, void *p,
		   size_t size)
{
	s->p = p;
	s->size = size;
	s->usable = os_malloc_usable_size(p);
	s->tag = (unsigned char)workload_draw(w, 256);
	MUST(s->usable >= size);
	MUST((uintptr_t)p % 8 == 0);
	workload_fill(s->p, size, s->tag);
}

static bool all_zero(const unsigned char *p, size_t size)
{
	return p[0] == 0 && (size == 1 || memcmp(p, p + 1, size - 1) == 0);
}

static void allocate(struct workload *w, struct workload_slot *s)
{
	size_t how = workload_draw(w, 10);
	size_t size = draw_size(w);
	size_t alignment = (size_t)8 << workload_draw(w, 11);
	void *p;

	errno = 0;
	if (how < 6)
		p = os_malloc(size);
	else if (how < 8)
		p = os_calloc(1, size);
	else
		p = os_aligned_alloc(alignment, size);
	if (p == NULL) {
		failed(w);
		return;
	}
	if (how == 6 || how == 7)
		MUST(all_zero(p, size));
	if (how >= 8)
		MUST_EQ((uintptr_t)p % alignment, 0);
	settle(w, s, p, size);
	s->alignment = how >= 8 ? alignment : 0;
}

static void release(struct workload *w, struct workload_slot *s)
{
	look(s);
	errno = ERRNO_BEFORE;
	if (workload_draw(w, 4) != 0)
		os_free(s->p);
	else if (s->alignment != 0)
		os_free_aligned_sized(s->p, s->alignment, s->size);
	else
		os_free_sized(s->p, s->size);
	MUST(errno == ERRNO_BEFORE);
	s->p = NULL;
}

static void resize(struct workload *w, struct workload_slot *s)
{
	size_t size = draw_size(w);
	unsigned char *p;

	look(s);
	errno = 0;
	p = os_realloc(s->p, size);
	if (p == NULL) {
		/* Rule 20c: it may have swallowed its neighbour. */
		MUST(os_malloc_usable_size(s->p) >= s->usable);
		s->usable = os_malloc_usable_size(s->p);
		failed(w);
		return;
	}
	MUST(workload_holds(p, s->size, s->tag, size));
	settle(w, s, p, size);
	s->alignment = 0;
}

void workload_step(struct workload *w)
{
	struct workload_slot *s = &w->slots[workload_draw(w, WORKLOAD_SLOTS)];
	size_t what = workload_draw(w, 100);

	w->operations++;
	if (s->p == NULL)
		allocate(w, s);
	else if (what < 45)
		resize(w, s);
	else
		release(w, s);
	if (what == 99)
		os_malloc_trim(workload_draw(w, 100000));
}

void workload_verify(struct workload *w)
{
	look_at_all(w);
	MUST_EQ(os_heap_check(), 0);
}

void workload_finish(struct workload *w)
{
	size_t i;

	for (i = 0; i < WORKLOAD_SLOTS; i++)
		if (w->slots[i].p != NULL)
			release(w, &w->slots[i]);
	workload_verify(w);
}

size_t workload_number(const char *variable, size_t usual)
{
	const char *text = getenv(variable);
	unsigned long long number = text != NULL ? strtoull(text, NULL, 10) : 0;

	return number != 0 ? (size_t)number : usual;
}
