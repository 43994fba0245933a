/* SPDX-License-Identifier: MIT */
/*
 * osmem.c - the os_* functions.
 *
 * The edge: zero sizes, overflow, errno, what each name promises. Everything
 * behind it is core.c and inspect.c. Nothing below calls os_*.
 */
#include <osmem.h>

#include "core.h"
#include "hot.h"
#include "init.h"
#include "inspect.h"
#include "lock.h"
#include "options.h"
#include "stats.h"
#include "thread.h"

#include <errno.h>
#include <string.h>

static void *os_or_enomem(void *p)
{
	if (unlikely(p == NULL))
		errno = ENOMEM;
	return p;
}

static __attribute__((noinline)) void *os_malloc_slow(size_t size)
{
	return size == 0 ? NULL : os_or_enomem(osmem_core_alloc(size));
}

/* The hot path: a list that is not empty. */
void *os_malloc(size_t size)
{
	osmem_stats_count(OSMEM_STATS_MALLOC, size);
	return osmem_thread_alloc(size, os_malloc_slow);
}

void *os_calloc(size_t n, size_t size)
{
	size_t bytes;
	void *p;

	if (__builtin_mul_overflow(n, size, &bytes)) {
		errno = ENOMEM;
		return NULL;
	}
	osmem_stats_count(OSMEM_STATS_CALLOC, bytes);
	p = osmem_hot_small(bytes);
	if (likely(p != NULL))
		return memset(p, 0, osmem_hot_clears(bytes));
	if (bytes == 0)
		return NULL;
	return os_or_enomem(osmem_core_alloc_zero(bytes));
}

/* The pointer stays where os_free() has it: one instruction less there. */
static __attribute__((noinline)) void os_free_slow(void *ptr, const char *call)
{
	if (ptr != NULL)
		osmem_core_free(call, ptr);
}

/* The hot path: a slot of the thread's own that is no double free. */
void os_free(void *ptr)
{
	osmem_stats_count(OSMEM_STATS_FREE, 0);
	if (likely(osmem_thread_free(ptr)))
		return;
	os_free_slow(ptr, "os_free");
}

static __attribute__((noinline)) void *
os_realloc_slow(const char *call, void *ptr, size_t size)
{
	void *p = NULL;
	int err;

	if (ptr == NULL)
		return size == 0 ? NULL : os_or_enomem(osmem_core_alloc(size));
	if (size == 0) {
		osmem_stats_count(OSMEM_STATS_FREE, 0);
		os_free_slow(ptr, call);
		return NULL;
	}
	err = osmem_core_realloc(call, ptr, size, &p);
	if (err != 0)
		errno = err;
	return p;
}

static inline void *os_realloc_as(const char *call, void *ptr, size_t size)
{
	osmem_stats_count(OSMEM_STATS_REALLOC, size);
	if (likely(osmem_hot_keeps(ptr, size)))
		return ptr;
	return os_realloc_slow(call, ptr, size);
}

void *os_realloc(void *ptr, size_t size)
{
	return os_realloc_as("os_realloc", ptr, size);
}

void *os_reallocarray(void *ptr, size_t n, size_t size)
{
	size_t bytes;

	if (__builtin_mul_overflow(n, size, &bytes)) {
		errno = ENOMEM;
		return NULL;
	}
	return os_realloc_as("os_reallocarray", ptr, bytes);
}

static void *os_aligned(size_t alignment, size_t size)
{
	void *p;

	osmem_stats_count(OSMEM_STATS_ALIGNED, size);
	if (size == 0)
		return NULL;
	p = osmem_hot_aligned(size, alignment);
	if (likely(p != NULL))
		return p;
	return os_or_enomem(osmem_core_alloc_aligned(size, alignment));
}

void *os_aligned_alloc(size_t alignment, size_t size)
{
	if (!osmem_is_power_of_two(alignment)) {
		errno = EINVAL;
		return NULL;
	}
	return os_aligned(alignment, size);
}

void *os_memalign(size_t alignment, size_t size)
{
	size_t power = OSMEM_ALIGN;

	if (alignment > SIZE_MAX / 2 + 1) {
		errno = EINVAL;
		return NULL;
	}
	while (power < alignment)
		power *= 2;
	return os_aligned(power, size);
}

int os_posix_memalign(void **memptr, size_t alignment, size_t size)
{
	void *p;

	if (!osmem_is_power_of_two(alignment) ||
	    alignment % sizeof(void *) != 0) {
		errno = EINVAL;
		return EINVAL;
	}
	p = os_aligned(alignment, size);
	if (p == NULL && size != 0)
		return ENOMEM;
	*memptr = p;
	return 0;
}

size_t os_malloc_usable_size(const void *ptr)
{
	size_t size = osmem_hot_usable(ptr);

	if (likely(size != 0) || ptr == NULL)
		return size;
	return osmem_core_usable("os_malloc_usable_size", ptr);
}

void os_free_sized(void *ptr, size_t size)
{
	osmem_stats_count(OSMEM_STATS_FREE, 0);
	if (unlikely(!osmem_hot_free_sized(ptr, size)) && ptr != NULL)
		osmem_core_free_sized("os_free_sized", ptr, 0, size,
				      size);
}

void os_free_aligned_sized(void *ptr, size_t alignment, size_t size)
{
	osmem_stats_count(OSMEM_STATS_FREE, 0);
	if (ptr != NULL)
		osmem_core_free_sized("os_free_aligned_sized", ptr, alignment,
				      size, size);
}

static char *os_copy(const char *s, size_t length)
{
	char *copy = os_malloc(length + 1);

	if (copy != NULL) {
		memcpy(copy, s, length);
		copy[length] = '\0';
	}
	return copy;
}

char *os_strdup(const char *s)
{
	return os_copy(s, strlen(s));
}

char *os_strndup(const char *s, size_t n)
{
	return os_copy(s, strnlen(s, n));
}

/* --- tuning --- */

int os_malloc_trim(size_t pad)
{
	return osmem_core_trim(pad);
}

/* Parameters count from 1 in the order of the options. */
_Static_assert((int)OS_M_MODE == (int)OSMEM_OPT_MODE + 1 &&
	       (int)OS_M_HARDEN == (int)OSMEM_OPT_HARDEN + 1,
	       "os_mallopt's parameters are the options");

int os_mallopt(int param, int value)
{
	bool begun = osmem_thread_begin();
	bool late = (param == OS_M_MODE || param == OS_M_HARDEN) &&
		    osmem_core_has_started();
	int err = EINVAL;

	osmem_init();
	if (!late && param >= 1 && param <= OS_M_HARDEN) {
		osmem_lock(&osmem_core_lock);
		err = osmem_options_set((enum osmem_option)(param - 1), value);
		osmem_init_apply_options();
		osmem_unlock(&osmem_core_lock);
	}
	if (err == 0 && param == OS_M_SITES)
		osmem_init_apply_sites();
	osmem_thread_end_if(begun);
	if (err != 0)
		errno = err;
	return err == 0;
}

int os_set_fault(const char *rule)
{
	int err;

	osmem_init();
	err = osmem_options_set_rule(rule != NULL ? rule : "no");
	if (err != 0) {
		errno = err;
		return -1;
	}
	osmem_init_apply_rule();
	return 0;
}

/* --- looking inside --- */

/* A caller that knows fewer fields than these has not set the size. */
enum { OS_STATS_LEAST = offsetof(struct os_stats, heap_used_bytes) };

int os_stats(struct os_stats *stats)
{
	struct os_stats all = { .struct_size = 0 };
	size_t size = stats->struct_size;

	if (size < OS_STATS_LEAST) {
		errno = EINVAL;
		return -1;
	}
	osmem_inspect_stats(&all);
	all.struct_size = size < sizeof(all) ? size : sizeof(all);
	memcpy(stats, &all, all.struct_size);
	return 0;
}

static int os_result(int err)
{
	if (err != 0)
		errno = err;
	return err == 0 ? 0 : -1;
}

int os_stats_print(int fd, int format)
{
	return os_result(osmem_inspect_print(fd, format));
}

int os_heap_walk(int (*fn)(const struct os_block *block, void *arg), void *arg)
{
	return osmem_inspect_walk(fn, arg);
}

int os_heap_check(void)
{
	return osmem_inspect_check();
}

const char *os_version(void)
{
	return PACKAGE_VERSION;
}

int os_info_print(int fd)
{
	return os_result(osmem_inspect_info(fd));
}
