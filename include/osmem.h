/* SPDX-License-Identifier: MIT */
/*
 * osmem.h - the public interface of libosmem, a memory allocator for Linux.
 *
 * Every function is safe to call from any number of threads. Sizes are in
 * bytes. Payloads are aligned to 8 bytes, or to 16 where the library was
 * configured so. What a caller may observe (addresses, headers, system calls)
 * is laid down in osmem(7); each function has a manual page of its own.
 */
#ifndef OSMEM_H
#define OSMEM_H

#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define OSMEM_VERSION_MAJOR 0
#define OSMEM_VERSION_MINOR 1
#define OSMEM_VERSION_PATCH 0
#define OSMEM_VERSION "0.1.0"

#if defined(__GNUC__) || defined(__clang__)
#define OSMEM_ATTR(x) __attribute__(x)
#else
#define OSMEM_ATTR(x)
#endif

#if defined(__GNUC__) && !defined(__clang__) && __GNUC__ >= 11
#define OSMEM_FREED_BY(f) OSMEM_ATTR((malloc(f, 1)))
#else
#define OSMEM_FREED_BY(f)
#endif

/* Allocation. NULL with errno ENOMEM when there is no memory. */

/*
 * Gives back a block of any os_* allocation function. NULL is allowed. errno
 * is kept. A pointer that is no live block is reported and the process ends.
 */
void os_free(void *ptr);

/* size bytes, not cleared. NULL without an error when size is 0. */
void *os_malloc(size_t size)
	OSMEM_ATTR((malloc, alloc_size(1), warn_unused_result))
	OSMEM_FREED_BY(os_free);

/* n * size bytes, all zero. NULL when either is 0; ENOMEM on overflow. */
void *os_calloc(size_t n, size_t size)
	OSMEM_ATTR((malloc, alloc_size(1, 2), warn_unused_result))
	OSMEM_FREED_BY(os_free);

/*
 * Changes the size of a block, which may move. ptr NULL: os_malloc(size).
 * size 0: os_free(ptr) and NULL. A block that has been freed: NULL with
 * errno EINVAL. On failure the old block is as it was.
 */
void *os_realloc(void *ptr, size_t size)
	OSMEM_ATTR((alloc_size(2), warn_unused_result));

/* os_realloc(ptr, n * size), ENOMEM when the product overflows. */
void *os_reallocarray(void *ptr, size_t n, size_t size)
	OSMEM_ATTR((alloc_size(2, 3), warn_unused_result));

/* size bytes at a multiple of alignment, a power of two; else EINVAL. */
void *os_aligned_alloc(size_t alignment, size_t size)
	OSMEM_ATTR((malloc, alloc_size(2), warn_unused_result))
	OSMEM_FREED_BY(os_free);

/* As os_aligned_alloc, but rounds alignment up to a power of two. */
void *os_memalign(size_t alignment, size_t size)
	OSMEM_ATTR((malloc, alloc_size(2), warn_unused_result))
	OSMEM_FREED_BY(os_free);

/*
 * Stores the block in *memptr and returns 0, or returns ENOMEM, or EINVAL
 * when alignment is no power of two times sizeof(void *), leaving *memptr
 * alone. errno is set to what is returned on failure.
 */
int os_posix_memalign(void **memptr, size_t alignment, size_t size)
	OSMEM_ATTR((nonnull(1)));

/* Bytes that the block can hold, at least what was asked. 0 for NULL. */
size_t os_malloc_usable_size(const void *ptr);

/* os_free that also checks the size (and alignment) that were asked for. */
void os_free_sized(void *ptr, size_t size);
void os_free_aligned_sized(void *ptr, size_t alignment, size_t size);

/* Copies of a string, to be freed with os_free. */
char *os_strdup(const char *s)
	OSMEM_ATTR((malloc, nonnull(1), warn_unused_result))
	OSMEM_FREED_BY(os_free);
char *os_strndup(const char *s, size_t n)
	OSMEM_ATTR((malloc, nonnull(1), warn_unused_result))
	OSMEM_FREED_BY(os_free);

/* Tuning. */

/* Gives free pages back to the system but pad bytes. 1 if any were, else 0. */
int os_malloc_trim(size_t pad);

/* Parameters of os_mallopt; the option of OSMEM_OPTIONS in the comment. */
enum os_mallopt_param {
	OS_M_MODE = 1, /* mode: an enum os_mode; before the first allocation */
	OS_M_DIE = 2,  /* die: end the process when a system call fails */
	OS_M_WARN = 3, /* warn: report system calls that fail */
	OS_M_BREAK = 4, /* break: an enum os_break */
	OS_M_CHECK = 5, /* check: os_heap_check() every so many operations */
	OS_M_STATS = 6, /* stats: 1 prints statistics when the process ends */
	OS_M_HOT_AFTER = 7,   /* hot_after: requests until a class is hot */
	OS_M_GROW_AFTER = 8,  /* grow_after: growths until growth is chunked */
	OS_M_CACHE_AFTER = 9, /* cache_after: unmaps until mappings are kept */
	OS_M_FOREIGN = 10, /* foreign: an enum os_foreign */
	OS_M_SITES = 11, /* sites: record where blocks come from, for reports */
	OS_M_HARDEN = 12 /* harden: hardened slabs; before any allocation */
};

enum os_mode { OS_MODE_EXACT = 0, OS_MODE_AUTO = 1, OS_MODE_FAST = 2 };
enum os_break { OS_BREAK_AUTO = 0, OS_BREAK_ALWAYS = 1, OS_BREAK_NEVER = 2 };
enum os_foreign {
	OS_FOREIGN_ABORT = 0,
	OS_FOREIGN_WARN = 1,
	OS_FOREIGN_IGNORE = 2
};

/* Sets a parameter. 1 on success; 0 with errno EINVAL when it is refused. */
int os_mallopt(int param, int value);

/*
 * Makes allocations fail, to test what a program does then: "nth:N" the N-th
 * call from now on, "every:N" each N-th, "p=0.01:SEED" some at random, "no" or
 * NULL none any more. 0, or -1 with errno EINVAL. As the option fail. One
 * thread at a time may call it.
 */
int os_set_fault(const char *rule);

/* Looking inside. */

/*
 * What the allocator holds. Set struct_size to sizeof(struct os_stats)
 * before the call: a library that knows more fields fills only those that
 * the caller has, and one that knows fewer lowers struct_size.
 */
struct os_stats {
	size_t struct_size;
	size_t heap_bytes;	/* heap space, headers included */
	size_t heap_stretches;	/* contiguous pieces of it */
	size_t heap_used_blocks;
	size_t heap_used_bytes; /* payload of the blocks in use */
	size_t heap_free_blocks;
	size_t heap_free_bytes; /* payload of the free blocks */
	size_t mapped_blocks;
	size_t mapped_bytes;	/* whole mappings, headers included */
	size_t slab_bytes;	/* space of the slabs that serve hot classes */
	size_t slab_used_blocks;
	size_t slab_used_bytes; /* of whole slots */
	size_t slab_region_bytes; /* address space for slabs; 0: none */
	size_t table_bytes;	/* the allocator's own tables, as touched */
	uint64_t growths;  /* times that the heap grew */
	uint64_t maps;     /* mappings made for blocks */
	uint64_t unmaps;   /* and given back */
	uint64_t failures; /* system calls that failed */
	/* Counted by libraries configured with --enable-stats, else 0. */
	uint64_t mallocs, callocs, reallocs, frees, aligned;
	uint64_t requested_bytes;
	/* While os_set_fault() or the option fail has allocations fail. */
	uint64_t fault_calls; /* allocation calls that were counted */
	uint64_t faults;      /* of these, made to fail */
};

/* Fills *stats. 0, or -1 with errno EINVAL for a bad struct_size. */
int os_stats(struct os_stats *stats) OSMEM_ATTR((nonnull(1)));

enum os_stats_format { OS_STATS_TEXT = 0, OS_STATS_JSON = 1 };

/* Prints the statistics to a descriptor. 0, or -1 with errno. */
int os_stats_print(int fd, int format);

enum os_block_state {
	OS_BLOCK_FREE = 0,
	OS_BLOCK_USED = 1,
	OS_BLOCK_MAPPED = 2
};

struct os_block {
	const void *ptr; /* the payload */
	size_t size;	 /* its bytes */
	int state;	 /* an enum os_block_state */
};

/*
 * Calls fn for every block in address order until it returns other than 0,
 * and returns that, or 0. fn must not call functions that allocate or free.
 */
int os_heap_walk(int (*fn)(const struct os_block *block, void *arg), void *arg);

/* Verifies every invariant. The number that are broken, each reported. */
int os_heap_check(void);

/* "0.1.0": the library's version, which may differ from the header's. */
const char *os_version(void);

/* Prints version, build, limits and options with their origin. 0 or -1. */
int os_info_print(int fd);

/* Printing without any heap, safe in a signal handler. */

/*
 * printf to standard output, a descriptor, and with a va_list. Conversions
 * d i u x X o p s c %, flags, width, precision, hh h l ll z j t. The number
 * of bytes, or -1 with errno (EINVAL for any other conversion).
 */
int os_printf(const char *format, ...) OSMEM_ATTR((format(printf, 1, 2)));
int os_dprintf(int fd, const char *format, ...)
	OSMEM_ATTR((format(printf, 2, 3)));
int os_vdprintf(int fd, const char *format, va_list ap)
	OSMEM_ATTR((format(printf, 2, 0)));

#ifdef __cplusplus
}
#endif

#endif
