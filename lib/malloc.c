/* SPDX-License-Identifier: MIT */
/*
 * malloc.c - malloc and its family: libc's names with libc's semantics.
 *
 * One more front end of core.c, compiled only into the replacement. Runs from
 * ld.so's very first call on. Everything is exported without a version and
 * must stay in one object, or static programs get libc's malloc beside it.
 */
#include "core.h"
#include "cxx.h"
#include "hard.h"
#include "hot.h"
#include "init.h"
#include "inspect.h"
#include "print.h"
#include "stats.h"
#include "thread.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#ifdef __GLIBC__
#include <malloc.h>
#endif

#define EXPORT __attribute__((visibility("default")))

/* Not every libc declares all of them. */
void *malloc(size_t size);
void *calloc(size_t n, size_t size);
void *realloc(void *ptr, size_t size);
void *reallocarray(void *ptr, size_t n, size_t size);
void free(void *ptr);
void free_sized(void *ptr, size_t size);
void free_aligned_sized(void *ptr, size_t alignment, size_t size);
void *aligned_alloc(size_t alignment, size_t size);
void *memalign(size_t alignment, size_t size);
int posix_memalign(void **memptr, size_t alignment, size_t size);
void *valloc(size_t size);
void *pvalloc(size_t size);
size_t malloc_usable_size(void *ptr);
int malloc_trim(size_t pad);
int mallopt(int param, int value);
void malloc_stats(void);
int malloc_info(int options, FILE *stream);

static void *malloc_or_enomem(void *p)
{
	if (unlikely(p == NULL))
		errno = ENOMEM;
	return p;
}

/*
 * A block of no bytes has an address of its own: as one of a byte has, or, from
 * the hardened slabs, one that nobody can touch.
 */
static size_t malloc_at_least(size_t size)
{
	return size + (size == 0 && !osmem_hard_is_on());
}

static __attribute__((noinline)) void *malloc_slow(size_t size)
{
	return malloc_or_enomem(osmem_core_alloc(malloc_at_least(size)));
}

/* The hot path: a list that is not empty. */
EXPORT void *malloc(size_t size)
{
	osmem_stats_count(OSMEM_STATS_MALLOC, size);
	return osmem_thread_alloc(size, malloc_slow);
}

EXPORT void *calloc(size_t n, size_t size)
{
	size_t bytes;
	void *p;

	if (__builtin_mul_overflow(n, size, &bytes))
		return malloc_or_enomem(NULL);
	osmem_stats_count(OSMEM_STATS_CALLOC, bytes);
	p = osmem_hot_small(bytes);
	if (likely(p != NULL))
		return memset(p, 0, osmem_hot_clears(bytes));
	return malloc_or_enomem(osmem_core_alloc_zero(malloc_at_least(bytes)));
}

/* The pointer stays where free() has it: one instruction less there. */
static __attribute__((noinline)) void malloc_free_slow(void *ptr,
						       const char *call)
{
	if (ptr != NULL)
		osmem_core_free(call, ptr);
}

/* The hot path: a slot of the thread's own that is no double free. */
static inline void malloc_free(const char *call, void *ptr)
{
	osmem_stats_count(OSMEM_STATS_FREE, 0);
	if (likely(osmem_thread_free(ptr)))
		return;
	malloc_free_slow(ptr, call);
}

EXPORT void free(void *ptr)
{
	malloc_free("free", ptr);
}

static __attribute__((noinline)) void *
malloc_resize_slow(const char *call, void *ptr, size_t size)
{
	void *p = NULL;
	int err;

	if (ptr == NULL)
		return malloc_or_enomem(
			osmem_core_alloc(malloc_at_least(size)));
	if (size == 0) {
		malloc_free(call, ptr);
		return NULL;
	}
	err = osmem_core_realloc(call, ptr, size, &p);
	if (unlikely(err != 0))
		errno = err;
	if (unlikely(err == EINVAL))
		osmem_core_misuse(call, ptr);
	return p;
}

static inline void *malloc_resize(const char *call, void *ptr, size_t size)
{
	osmem_stats_count(OSMEM_STATS_REALLOC, size);
	if (likely(osmem_hot_keeps(ptr, size)))
		return ptr;
	return malloc_resize_slow(call, ptr, size);
}

EXPORT void *realloc(void *ptr, size_t size)
{
	return malloc_resize("realloc", ptr, size);
}

EXPORT void *reallocarray(void *ptr, size_t n, size_t size)
{
	size_t bytes;

	if (__builtin_mul_overflow(n, size, &bytes))
		return malloc_or_enomem(NULL);
	return malloc_resize("reallocarray", ptr, bytes);
}

static void *malloc_aligned(size_t alignment, size_t size)
{
	void *p;

	osmem_stats_count(OSMEM_STATS_ALIGNED, size);
	p = osmem_hot_aligned(size, alignment);
	if (likely(p != NULL))
		return p;
	return malloc_or_enomem(
		osmem_core_alloc_aligned(malloc_at_least(size), alignment));
}

EXPORT void *aligned_alloc(size_t alignment, size_t size)
{
	if (!osmem_is_power_of_two(alignment)) {
		errno = EINVAL;
		return NULL;
	}
	return malloc_aligned(alignment, size);
}

EXPORT void *memalign(size_t alignment, size_t size)
{
	size_t power = OSMEM_ALIGN;

	if (alignment > SIZE_MAX / 2 + 1) {
		errno = EINVAL;
		return NULL;
	}
	while (power < alignment)
		power *= 2;
	return malloc_aligned(power, size);
}

EXPORT int posix_memalign(void **memptr, size_t alignment, size_t size)
{
	void *p;

	if (!osmem_is_power_of_two(alignment) ||
	    alignment % sizeof(void *) != 0) {
		errno = EINVAL;
		return EINVAL;
	}
	p = malloc_aligned(alignment, size);
	if (p == NULL)
		return ENOMEM;
	*memptr = p;
	return 0;
}

EXPORT void *valloc(size_t size)
{
	return malloc_aligned(osmem_init_page_size(), size);
}

/* Whole pages, and one even for nothing. */
EXPORT void *pvalloc(size_t size)
{
	size_t page = osmem_init_page_size();

	if (size > SIZE_MAX - page)
		return malloc_or_enomem(NULL);
	return malloc_aligned(page, osmem_up(size + (size == 0), page));
}

/* The news of some C++ runtimes ask for a byte when the size is 0. */
static __attribute__((noinline)) void
malloc_free_sized_slow(void *ptr, size_t size, const char *call)
{
	if (ptr != NULL)
		osmem_core_free_sized(call, ptr, 0, malloc_at_least(size),
				      size + (size == 0));
}

static inline void malloc_free_sized(const char *call, void *ptr, size_t size)
{
	osmem_stats_count(OSMEM_STATS_FREE, 0);
	if (likely(osmem_hot_free_sized(ptr, size)))
		return;
	malloc_free_sized_slow(ptr, size, call);
}

EXPORT void free_sized(void *ptr, size_t size)
{
	malloc_free_sized("free_sized", ptr, size);
}

EXPORT void free_aligned_sized(void *ptr, size_t alignment, size_t size)
{
	size_t asked = malloc_at_least(size);

	osmem_stats_count(OSMEM_STATS_FREE, 0);
	if (ptr != NULL)
		osmem_core_free_sized("free_aligned_sized", ptr, alignment,
				      asked, asked);
}

EXPORT size_t malloc_usable_size(void *ptr)
{
	size_t size = osmem_hot_usable(ptr);

	if (likely(size != 0) || ptr == NULL)
		return size;
	return osmem_core_usable("malloc_usable_size", ptr);
}

EXPORT int malloc_trim(size_t pad)
{
	return osmem_core_trim(pad);
}

/*
 * libc's parameters have no meaning here; programs take 0 for a failure.
 * libosmem asks with a magic number whether malloc is this one.
 */
EXPORT int mallopt(int param, int value)
{
	(void)param;
	return value == OSMEM_HANDSHAKE ? OSMEM_HANDSHAKE : 1;
}

EXPORT void malloc_stats(void)
{
	osmem_inspect_print(2, OS_STATS_TEXT);
}

/* What the heap and the slabs hold, and how much of it is in use. */
static size_t malloc_held(const struct os_stats *stats)
{
	return stats->heap_bytes + stats->slab_bytes;
}

static size_t malloc_in_use(const struct os_stats *stats)
{
	return stats->heap_used_bytes + stats->slab_used_bytes;
}

EXPORT int malloc_info(int options, FILE *stream)
{
	struct os_stats stats;
	size_t held;

	if (options != 0)
		return EINVAL;
	osmem_inspect_stats(&stats);
	held = malloc_held(&stats);
	return fprintf(stream,
		       "<malloc version=\"1\">\n"
		       "<heap nr=\"0\">\n<sizes>\n</sizes>\n"
		       "<total type=\"rest\" count=\"%zu\" size=\"%zu\"/>\n"
		       "<system type=\"current\" size=\"%zu\"/>\n</heap>\n"
		       "<total type=\"mmap\" count=\"%zu\" size=\"%zu\"/>\n"
		       "<system type=\"current\" size=\"%zu\"/>\n</malloc>\n",
		       stats.heap_free_blocks, held - malloc_in_use(&stats),
		       held, stats.mapped_blocks, stats.mapped_bytes,
		       held + stats.mapped_bytes) < 0 ?
		       -1 :
		       0;
}

#ifdef __GLIBC__
struct mallinfo2 mallinfo2(void);
struct mallinfo mallinfo(void);

/*
 * What is mapped is in use, too: most libcs count it there, and programs ask
 * for all that they have. arena is the sum of what is in use and what is free.
 */
EXPORT struct mallinfo2 mallinfo2(void)
{
	struct os_stats stats;
	struct mallinfo2 info = { 0 };

	osmem_inspect_stats(&stats);
	info.arena = malloc_held(&stats) + stats.mapped_bytes;
	info.ordblks = stats.heap_free_blocks;
	info.hblks = stats.mapped_blocks;
	info.hblkhd = stats.mapped_bytes;
	info.uordblks = malloc_in_use(&stats) + stats.mapped_bytes;
	info.fordblks = info.arena - info.uordblks;
	return info;
}

/* The old struct of ints wraps, as its manual page says. */
EXPORT struct mallinfo mallinfo(void)
{
	struct mallinfo2 wide = mallinfo2();
	struct mallinfo info = {
		.arena = (int)wide.arena,
		.ordblks = (int)wide.ordblks,
		.hblks = (int)wide.hblks,
		.hblkhd = (int)wide.hblkhd,
		.uordblks = (int)wide.uordblks,
		.fordblks = (int)wide.fordblks,
	};

	return info;
}

/* The names that libc exports and some programs call directly. */
#ifndef __clang__
#pragma GCC diagnostic ignored "-Wmissing-attributes"
#endif
#pragma GCC diagnostic ignored "-Wdeprecated-declarations"
#define ALIAS(name, of) \
	EXPORT __typeof__(of) name __attribute__((alias(#of)))

ALIAS(__libc_malloc, malloc);
ALIAS(__libc_calloc, calloc);
ALIAS(__libc_realloc, realloc);
ALIAS(__libc_free, free);
ALIAS(__libc_memalign, memalign);
ALIAS(__libc_valloc, valloc);
ALIAS(__libc_pvalloc, pvalloc);
ALIAS(__libc_mallopt, mallopt);
ALIAS(__libc_mallinfo, mallinfo);
ALIAS(cfree, free);
#endif

/*
 * The C++ news that are called most; the others, of the C++ runtime, call these
 * or malloc. Only the shared object calls them so (Makefile.am): a static
 * program's are its runtime's.
 */
EXPORT void *osmem_new_array(size_t size);

/*
 * Its return address is the caller's of operator new, where the compiler makes
 * a jump of the call; else it says nothing.
 */
static __attribute__((noinline)) void *malloc_new_slow(size_t size)
{
	const void *caller = __builtin_return_address(0);
	void *p = malloc_slow(size);

	while (unlikely(p == NULL)) {
		p = osmem_cxx_no_memory(caller, size);
		if (p == NULL)
			p = malloc_slow(size);
	}
	return p;
}

static inline void *malloc_new(size_t size)
{
	osmem_stats_count(OSMEM_STATS_MALLOC, size);
	return osmem_thread_alloc(size, malloc_new_slow);
}

EXPORT void *osmem_new(size_t size)
{
	return malloc_new(size);
}

EXPORT void *osmem_new_array(size_t size)
{
	return malloc_new(size);
}

/*
 * The C++ deletes, under their mangled names: sizes and alignments that do not
 * fit the block are seen. Weak, so that a static C++ runtime may bring its own.
 */
#if __SIZEOF_SIZE_T__ == __SIZEOF_INT__
#define DELETE(before, after) before##j##after
#else
#define DELETE(before, after) before##m##after
#endif
#define DELETE_EXPORT __attribute__((visibility("default"), weak)) void

DELETE_EXPORT _ZdlPv(void *ptr);
DELETE_EXPORT _ZdaPv(void *ptr);
DELETE_EXPORT _ZdlPvRKSt9nothrow_t(void *ptr, const void *tag);
DELETE_EXPORT _ZdaPvRKSt9nothrow_t(void *ptr, const void *tag);
DELETE_EXPORT DELETE(_ZdlPv, )(void *ptr, size_t size);
DELETE_EXPORT DELETE(_ZdaPv, )(void *ptr, size_t size);
DELETE_EXPORT _ZdlPvSt11align_val_t(void *ptr, size_t alignment);
DELETE_EXPORT _ZdaPvSt11align_val_t(void *ptr, size_t alignment);
DELETE_EXPORT _ZdlPvSt11align_val_tRKSt9nothrow_t(void *ptr, size_t alignment,
						  const void *tag);
DELETE_EXPORT _ZdaPvSt11align_val_tRKSt9nothrow_t(void *ptr, size_t alignment,
						  const void *tag);
DELETE_EXPORT DELETE(_ZdlPv, St11align_val_t)(void *ptr, size_t size,
					      size_t alignment);
DELETE_EXPORT DELETE(_ZdaPv, St11align_val_t)(void *ptr, size_t size,
					      size_t alignment);

DELETE_EXPORT _ZdlPv(void *ptr)
{
	malloc_free("operator delete", ptr);
}

DELETE_EXPORT _ZdaPv(void *ptr)
{
	malloc_free("operator delete[]", ptr);
}

DELETE_EXPORT _ZdlPvRKSt9nothrow_t(void *ptr, const void *tag)
{
	(void)tag;
	malloc_free("operator delete", ptr);
}

DELETE_EXPORT _ZdaPvRKSt9nothrow_t(void *ptr, const void *tag)
{
	(void)tag;
	malloc_free("operator delete[]", ptr);
}

DELETE_EXPORT DELETE(_ZdlPv, )(void *ptr, size_t size)
{
	malloc_free_sized("operator delete", ptr, size);
}

DELETE_EXPORT DELETE(_ZdaPv, )(void *ptr, size_t size)
{
	malloc_free_sized("operator delete[]", ptr, size);
}

DELETE_EXPORT _ZdlPvSt11align_val_t(void *ptr, size_t alignment)
{
	(void)alignment;
	malloc_free("operator delete", ptr);
}

DELETE_EXPORT _ZdaPvSt11align_val_t(void *ptr, size_t alignment)
{
	(void)alignment;
	malloc_free("operator delete[]", ptr);
}

DELETE_EXPORT _ZdlPvSt11align_val_tRKSt9nothrow_t(void *ptr, size_t alignment,
						  const void *tag)
{
	(void)alignment;
	(void)tag;
	malloc_free("operator delete", ptr);
}

DELETE_EXPORT _ZdaPvSt11align_val_tRKSt9nothrow_t(void *ptr, size_t alignment,
						  const void *tag)
{
	(void)alignment;
	(void)tag;
	malloc_free("operator delete[]", ptr);
}

/* Here some round the size up to the alignment. */
static void malloc_delete(const char *call, void *ptr, size_t alignment,
			  size_t size)
{
	size_t most = osmem_up(size + (size == 0),
			       alignment + (alignment == 0));

	osmem_stats_count(OSMEM_STATS_FREE, 0);
	if (ptr != NULL)
		osmem_core_free_sized(call, ptr, alignment,
				      malloc_at_least(size), most);
}

DELETE_EXPORT DELETE(_ZdlPv, St11align_val_t)(void *ptr, size_t size,
					      size_t alignment)
{
	malloc_delete("operator delete", ptr, alignment, size);
}

DELETE_EXPORT DELETE(_ZdaPv, St11align_val_t)(void *ptr, size_t size,
					      size_t alignment)
{
	malloc_delete("operator delete[]", ptr, alignment, size);
}
