/* SPDX-License-Identifier: MIT */
/*
 * nested.c - the static area for handlers, and frees that wait.
 *
 * Bitmap, lengths and queue are atomics, each changed by one operation, so
 * that threads, and handlers that interrupt handlers, need no lock. Must never
 * call anything that has one.
 */
#include "nested.h"

OSMEM_VAR_DEFINED _Alignas(4096) char
	osmem_nested_area[OSMEM_NESTED_GRANULES * OSMEM_NESTED_GRANULE];
OSMEM_VAR_DEFINED atomic_uint osmem_nested_waiting;

/*
 * A bit for each granule in use: set with acquire by who takes it, cleared
 * with release by who gives it back, so that contents do not cross.
 */
static _Atomic(uint32_t) nested_used[OSMEM_NESTED_WORDS];

/*
 * The granules of the block that starts here, or 0. Relaxed: whoever has the
 * pointer sees it, and of two who free at once one gets the 0.
 */
static _Atomic(uint8_t) nested_length[OSMEM_NESTED_GRANULES];

/* Release and acquire: what frees sees what was written into the block. */
static _Atomic(void *) nested_queue[OSMEM_NESTED_QUEUE];

/* The first free run of a word, at a multiple of step; 0 for none. */
static uint32_t nested_run(uint32_t used, unsigned int count,
			   unsigned int step)
{
	uint32_t run = UINT32_MAX >> (OSMEM_NESTED_BITS - count);
	unsigned int at;

	for (at = 0; at + count <= OSMEM_NESTED_BITS; at += step)
		if ((used & run << at) == 0)
			return run << at;
	return 0;
}

/* Takes a run of a word; the number of its first granule, or -1. */
static int nested_take(unsigned int word, unsigned int count,
		       unsigned int step)
{
	uint32_t used = atomic_load_explicit(&nested_used[word],
					     memory_order_relaxed);
	uint32_t run;

	do {
		run = nested_run(used, count, step);
		if (run == 0)
			return -1;
	} while (!atomic_compare_exchange_weak_explicit(
		&nested_used[word], &used, used | run, memory_order_acquire,
		memory_order_relaxed));
	return (int)word * OSMEM_NESTED_BITS + __builtin_ctz(run);
}

void *osmem_nested_alloc(size_t size, size_t alignment)
{
	size_t count = (size + OSMEM_NESTED_GRANULE - (size != 0)) /
		       OSMEM_NESTED_GRANULE;
	size_t step = (alignment + OSMEM_NESTED_GRANULE - 1) /
		      OSMEM_NESTED_GRANULE;
	unsigned int word;
	int at;

	/* Also of no bytes, as hardened blocks may be: one granule. */
	if (size > OSMEM_NESTED_BITS * OSMEM_NESTED_GRANULE ||
	    alignment > 4096)
		return NULL;
	for (word = 0; word < OSMEM_NESTED_WORDS; word++) {
		at = nested_take(word, (unsigned int)count,
				 (unsigned int)step);
		if (at < 0)
			continue;
		atomic_store_explicit(&nested_length[at], (uint8_t)count,
				      memory_order_relaxed);
		return osmem_nested_area + at * OSMEM_NESTED_GRANULE;
	}
	return NULL;
}

/* The length's place for a pointer to the start of a granule, or NULL. */
static _Atomic(uint8_t) *nested_place(const void *ptr)
{
	size_t offset = (uintptr_t)ptr - (uintptr_t)osmem_nested_area;

	return offset % OSMEM_NESTED_GRANULE == 0 ?
		       &nested_length[offset / OSMEM_NESTED_GRANULE] :
		       NULL;
}

size_t osmem_nested_size(const void *ptr)
{
	_Atomic(uint8_t) *length = nested_place(ptr);

	if (length == NULL)
		return 0;
	return atomic_load_explicit(length, memory_order_relaxed) *
	       (size_t)OSMEM_NESTED_GRANULE;
}

bool osmem_nested_free(void *ptr)
{
	_Atomic(uint8_t) *length = nested_place(ptr);
	unsigned int count = 0;
	unsigned int at;
	uint32_t run;

	if (length != NULL)
		count = atomic_exchange_explicit(length, 0,
						 memory_order_relaxed);
	if (count == 0)
		return false;
	at = (unsigned int)(length - nested_length);
	run = UINT32_MAX >> (OSMEM_NESTED_BITS - count)
			     << at % OSMEM_NESTED_BITS;
	atomic_fetch_and_explicit(&nested_used[at / OSMEM_NESTED_BITS], ~run,
				  memory_order_release);
	return true;
}

bool osmem_nested_defer(void *ptr)
{
	unsigned int i;

	for (i = 0; i < OSMEM_NESTED_QUEUE; i++) {
		void *none = NULL;

		if (!atomic_compare_exchange_strong_explicit(
			    &nested_queue[i], &none, ptr, memory_order_release,
			    memory_order_relaxed))
			continue;
		atomic_fetch_add_explicit(&osmem_nested_waiting, 1,
					  memory_order_relaxed);
		return true;
	}
	return false;
}

void *osmem_nested_next(void)
{
	unsigned int i;

	for (i = 0; i < OSMEM_NESTED_QUEUE; i++) {
		void *ptr = atomic_load_explicit(&nested_queue[i],
						 memory_order_relaxed);

		if (ptr == NULL ||
		    !atomic_compare_exchange_strong_explicit(
			    &nested_queue[i], &ptr, NULL, memory_order_acquire,
			    memory_order_relaxed))
			continue;
		atomic_fetch_sub_explicit(&osmem_nested_waiting, 1,
					  memory_order_relaxed);
		return ptr;
	}
	return NULL;
}
