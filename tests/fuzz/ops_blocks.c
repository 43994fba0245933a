/* SPDX-License-Identifier: MIT */
/*
 * ops_blocks.c - the table of live blocks, their patterns, and the checks.
 */
#include <config.h>

#include "ops.h"

#include <errno.h>
#include <osmem.h>

enum {
	OPS_WHOLE = 64,    /* bytes of a pattern at either end */
	OPS_SPARSE = 509,  /* one in so many between them, */
	OPS_PARTS = 64,    /* or in this part of a large block */
	OPS_ERRNO = 0x5a5a /* what free must keep */
};

struct ops_block ops_live[OPS_LIVE];
void *ops_freed[OPS_FREED];
bool ops_may_fail, ops_passes;
int ops_mode;
const struct ops_block *ops_busy;
static unsigned int ops_count, ops_freed_count;
static size_t ops_bytes;
static unsigned char ops_tag;

/* --- patterns --- */

static unsigned char ops_pattern(const struct ops_block *b, size_t i)
{
	return (unsigned char)(b->tag + i * 31 + (i >> 8) * 7);
}

/* The bytes that are looked at: all at either end, some between. */
static size_t ops_next(size_t i, size_t n)
{
	size_t step = n / OPS_PARTS;

	if (i < OPS_WHOLE || n - i <= OPS_WHOLE)
		return i + 1;
	if (step < OPS_SPARSE)
		step = OPS_SPARSE;
	return n - i < OPS_WHOLE + step ? n - OPS_WHOLE : i + step;
}

static void ops_fill(const struct ops_block *b)
{
	for (size_t i = 0; i < b->usable; i = ops_next(i, b->usable))
		b->p[i] = ops_pattern(b, i);
}

void ops_verify(const struct ops_block *b, size_t n)
{
	for (size_t i = 0; i < n; i = ops_next(i, b->usable))
		FUZZ_MUST(b->p[i] == ops_pattern(b, i),
			  "byte %zu of %zu at %p is %#x", i, b->size,
			  (void *)b->p, b->p[i]);
}

void ops_verify_zero(const unsigned char *p, size_t n)
{
	for (size_t i = 0; i < n; i = ops_next(i, n))
		FUZZ_MUST(p[i] == 0, "byte %zu of %zu is %#x", i, n, p[i]);
}

/* --- the table of live blocks --- */

bool ops_is_live(const void *p)
{
	for (unsigned int i = 0; i < OPS_LIVE; i++)
		if (ops_live[i].p == p && p != NULL)
			return true;
	return false;
}

static void ops_check_overlap(const struct ops_block *b)
{
	for (unsigned int i = 0; i < OPS_LIVE; i++) {
		const struct ops_block *o = &ops_live[i];

		FUZZ_MUST(o == b || o->p == NULL || o->p >= b->p + b->usable ||
				  b->p >= o->p + o->usable,
			  "%p of %zu bytes overlaps %p of %zu", (void *)b->p,
			  b->usable, (void *)o->p, o->usable);
	}
}

bool ops_is_refused(const void *p, size_t n)
{
	int err = errno;

	FUZZ_MUST(n != 0 || p == NULL, "a block of no bytes");
	FUZZ_MUST(n <= PTRDIFF_MAX || p == NULL, "a block of %zu bytes", n);
	if (p != NULL)
		return false;
	FUZZ_MUST(n == 0 || err == ENOMEM, "errno %d for %zu bytes", err, n);
	FUZZ_MUST(n == 0 || n > OPS_SURE || ops_may_fail,
		  "no block of %zu bytes", n);
	return true;
}

static void ops_enter(struct ops_block *b, void *p, size_t n, size_t alignment)
{
	*b = (struct ops_block){
		.p = p, .size = n, .alignment = alignment, .tag = ++ops_tag};
	b->usable = os_malloc_usable_size(p);
	FUZZ_MUST(b->usable >= n, "%zu of %zu bytes", b->usable, n);
	FUZZ_MUST((uintptr_t)p % alignment == 0, "%p for alignment %zu", p,
		  alignment);
	ops_check_overlap(b);
	ops_fill(b);
	ops_count++;
	ops_bytes += b->usable;
}

void ops_remember(void *p)
{
	ops_freed[ops_freed_count++ % OPS_FREED] = p;
}

void ops_forget(struct ops_block *b)
{
	ops_remember(b->p);
	ops_count--;
	ops_bytes -= b->usable;
	b->p = NULL;
}

void ops_take(struct ops_block *b, void *p, size_t n, size_t alignment)
{
	if (ops_is_refused(p, n))
		return;
	if (n > OPS_BYTES)
		os_free(p);
	else
		ops_enter(b, p, n, alignment);
}

void ops_swell(struct ops_block *b)
{
	size_t usable = os_malloc_usable_size(b->p);

	FUZZ_MUST(usable >= b->usable, "%zu bytes are left of %zu", usable,
		  b->usable);
	ops_verify(b, b->usable);
	ops_bytes += usable - b->usable;
	b->usable = usable;
	ops_check_overlap(b);
	ops_fill(b);
}

void ops_release(struct ops_block *b, bool sized)
{
	void *p = b->p;

	if (p == NULL)
		return;
	ops_verify(b, b->usable);
	ops_busy = b;
	errno = OPS_ERRNO;
	if (!sized)
		os_free(p);
	else if (b->alignment == OSMEM_CONF_ALIGNMENT)
		os_free_sized(p, b->size);
	else
		os_free_aligned_sized(p, b->alignment, b->size);
	FUZZ_MUST(errno == OPS_ERRNO, "a free set errno %d", errno);
	ops_busy = NULL;
	ops_forget(b);
}

bool ops_has_room(size_t n)
{
	return n > OPS_BYTES ||
	       (ops_bytes <= OPS_BYTES && n <= OPS_BYTES - ops_bytes);
}

void ops_count_others(int by)
{
	ops_count += (unsigned int)by;
}

/* A gap that somebody watches, and that is cut, moves down into the block. */
void ops_lose(char *low, char *end)
{
	for (unsigned int i = 0; i < OPS_LIVE; i++) {
		struct ops_block *b = &ops_live[i];
		size_t left = (size_t)((unsigned char *)low - b->p);
		size_t usable;

		if (b->p == NULL || (char *)b->p >= end)
			continue;
		if (ops_is_lost(b->p, low, end)) {
			ops_forget(b);
			continue;
		}
		usable = os_malloc_usable_size(b->p);
		if (usable == b->usable)
			continue;
		FUZZ_MUST(usable < b->usable && usable <= left,
			  "%zu of %zu bytes", usable, left);
		ops_bytes -= b->usable - usable;
		b->usable = usable;
		if (b->size > b->usable)
			b->size = b->usable;
		ops_fill(b);
	}
}

void ops_free_many(unsigned int start, unsigned int step)
{
	for (unsigned int i = 0; i < OPS_LIVE; i += step % 16 + 1)
		ops_release(&ops_live[(step & 16 ? start - i : start + i) %
				      OPS_LIVE],
			    false);
}

/* --- looking inside --- */

static int ops_count_block(const struct os_block *block, void *arg)
{
	unsigned int *count = arg;

	*count += block->state != OS_BLOCK_FREE;
	return 0;
}

void ops_check(void)
{
	struct os_stats s = {.struct_size = sizeof(s)};
	unsigned int walked = 0;

	for (unsigned int i = 0; i < OPS_LIVE; i++)
		if (ops_live[i].p != NULL)
			ops_verify(&ops_live[i], ops_live[i].usable);
	ops_check_breaks();
	ops_settle();
	FUZZ_MUST(os_heap_check() == 0, "os_heap_check()");
	FUZZ_MUST(os_stats(&s) == 0, "os_stats()");
	FUZZ_MUST(s.heap_used_blocks + s.mapped_blocks + s.slab_used_blocks ==
			  ops_count,
		  "%zu + %zu + %zu blocks, not %u", s.heap_used_blocks,
		  s.mapped_blocks, s.slab_used_blocks, ops_count);
	os_heap_walk(ops_count_block, &walked);
	FUZZ_MUST(walked == ops_count, "%u blocks walked, not %u", walked,
		  ops_count);
}
