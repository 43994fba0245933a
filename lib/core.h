/* SPDX-License-Identifier: MIT */
/*
 * core.h - the door: allocation without names and without edges.
 *
 * What os_* and the malloc family have in common. Sizes are not 0 here;
 * overflow of a product, errno and what a name promises are the front ends'
 * (osmem.c, malloc.c). call is the name of the function that the program
 * called, for reports. All functions may be called by any thread.
 */
#ifndef OSMEM_CORE_H
#define OSMEM_CORE_H

#include "block.h"

/* size bytes, not cleared (rule 7). NULL without memory. */
OSMEM_FN void *osmem_core_alloc(size_t size);

/* size bytes, all zero (rules 13, 14). */
OSMEM_FN void *osmem_core_alloc_zero(size_t size);

/* size bytes at a multiple of alignment, a power of two (rule 28). */
OSMEM_FN void *osmem_core_alloc_aligned(size_t size, size_t alignment);

/*
 * Frees a live block; anything else is reported and ends the process, but for
 * what the option foreign lets pass: that has no effect, here and below.
 */
OSMEM_FN void osmem_core_free(const char *call, void *ptr);

/*
 * The same for a block of asked bytes at alignment (0: any). Somebody between
 * may have asked for up to most in their place.
 */
OSMEM_FN void osmem_core_free_sized(const char *call, void *ptr,
				    size_t alignment, size_t asked,
				    size_t most);

/*
 * Rules 17 to 22 for ptr not NULL and size not 0. 0 and the block in *out, or
 * ENOMEM, or EINVAL when ptr is a free block (rule 17) or was let pass.
 */
OSMEM_FN int osmem_core_realloc(const char *call, void *ptr, size_t size,
				void **out);

/* The payload's bytes of a live block; 0 of what was let pass. */
OSMEM_FN size_t osmem_core_usable(const char *call, const void *ptr);

/*
 * Reports a pointer that osmem_core_realloc refused, and ends the process.
 * Returns only for what is let pass.
 */
OSMEM_FN OSMEM_COLD void osmem_core_misuse(const char *call, const void *ptr);

/* Whether anything has ever been allocated. */
OSMEM_FN bool osmem_core_has_started(void);

/* Gives free pages back, but pad bytes. Whether there were any. */
OSMEM_FN bool osmem_core_trim(size_t pad);

#endif
