/* SPDX-License-Identifier: MIT */
/*
 * front.h - the allocator under test, for programs that are built twice: with
 * os_* and mode=fast, and, with FRONT_MALLOC, with whatever malloc is there,
 * libc's or one that is preloaded.
 */
#ifndef FRONT_H
#define FRONT_H

#include <stddef.h>
#include <stdlib.h>

#ifdef FRONT_MALLOC

#define front_malloc malloc
#define front_calloc calloc
#define front_aligned_alloc aligned_alloc
#define front_realloc realloc
#define front_free free
#define front_aligned_alloc aligned_alloc
#define front_usable_size malloc_usable_size

/* Not every C library has it. */
int malloc_trim(size_t pad) __attribute__((weak));
size_t malloc_usable_size(void *ptr);

static inline void front_trim(void)
{
	if (malloc_trim != NULL)
		malloc_trim(0);
}

static inline void front_open(void)
{
}

/* Faults in the heap, where it can be looked at. */
static inline int front_check(void)
{
	return 0;
}

enum { FRONT_THREADS = 1 };

#else

#include <config.h>
#include <osmem.h>

#define front_malloc os_malloc
#define front_calloc os_calloc
#define front_aligned_alloc os_aligned_alloc
#define front_realloc os_realloc
#define front_free os_free
#define front_aligned_alloc os_aligned_alloc

static inline size_t front_usable_size(void *p)
{
	return os_malloc_usable_size(p);
}

static inline void front_trim(void)
{
	os_malloc_trim(0);
}

/* Before the first allocation. OSMEM_OPTIONS, when it is set, decides. */
static inline void front_open(void)
{
	if (getenv("OSMEM_OPTIONS") == NULL)
		os_mallopt(OS_M_MODE, OS_MODE_FAST);
}

static inline int front_check(void)
{
	return os_heap_check();
}

enum { FRONT_THREADS = OSMEM_CONF_THREADS };

#endif

#endif
