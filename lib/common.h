/* SPDX-License-Identifier: MIT */
/*
 * common.h - what every module may use: configuration and attributes.
 *
 * The library is compiled twice: as libosmem, and as the malloc replacement,
 * one translation unit (replacement.c) in which every internal function is
 * static, so that both can live in one process or one static program.
 */
#ifndef OSMEM_COMMON_H
#define OSMEM_COMMON_H

#include <config.h>

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef OSMEM_REPLACEMENT
/* Whatever libosmem was configured to: any program may have threads. */
#undef OSMEM_CONF_THREADS
#define OSMEM_CONF_THREADS 1
#undef OSMEM_CONF_MODE
#define OSMEM_CONF_MODE OSMEM_CONF_MALLOC_MODE
#define OSMEM_FN static __attribute__((unused))
#define OSMEM_VAR static __attribute__((unused))
#define OSMEM_VAR_DEFINED static
#define OSMEM_ALIGN 16
#define OSMEM_NAME "libosmem-malloc"
enum { OSMEM_IS_REPLACEMENT = 1 };
#else
#define OSMEM_FN __attribute__((visibility("hidden")))
#define OSMEM_VAR extern __attribute__((visibility("hidden")))
#define OSMEM_VAR_DEFINED
#define OSMEM_ALIGN OSMEM_CONF_ALIGNMENT
#define OSMEM_NAME "libosmem"
enum { OSMEM_IS_REPLACEMENT = 0 };
#endif

#define OSMEM_COLD __attribute__((cold, noinline))
/* Reads what AddressSanitizer has been told that nobody may. */
#define OSMEM_ANY_BYTES __attribute__((no_sanitize("address")))

/* What races by intent is spelled out for ThreadSanitizer, or left out. */
#if defined(__SANITIZE_THREAD__)
#define OSMEM_THREAD_SANITIZER 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define OSMEM_THREAD_SANITIZER 1
#endif
#endif
#ifndef OSMEM_THREAD_SANITIZER
#define OSMEM_THREAD_SANITIZER 0
#endif

#define likely(x) __builtin_expect(!!(x), 1)
#define unlikely(x) __builtin_expect(!!(x), 0)

/* The constants of the contract. */
#define OSMEM_META 32
#define OSMEM_MMAP_THRESHOLD 131072
#define OSMEM_PREALLOC 131072

/* n rounded up to a multiple of to, a power of two. Wraps near SIZE_MAX. */
static inline size_t osmem_up(size_t n, size_t to)
{
	return (n + to - 1) & ~(to - 1);
}

static inline bool osmem_is_power_of_two(size_t n)
{
	return n != 0 && (n & (n - 1)) == 0;
}

#endif
