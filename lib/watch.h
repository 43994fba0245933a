/* SPDX-License-Identifier: MIT */
/*
 * watch.h - what valgrind's memcheck and AddressSanitizer are told of blocks.
 *
 * Under either of them a block is longer by a gap, of which the end holds the
 * size that was asked for. All of the gap is out of bounds, as is a free
 * block. Headers are not: they are the library's own and sealed.
 */
#ifndef OSMEM_WATCH_H
#define OSMEM_WATCH_H

#include "common.h"

enum { OSMEM_WATCH_GAP = 32 };

/* Written by the first call, and by os_mallopt before an allocation. */
OSMEM_VAR bool osmem_watch_on;

/* Whether somebody watches this process. */
OSMEM_FN bool osmem_watch_exists(void);

/*
 * A block of room bytes at p serves size of them; and no longer. unmap: its
 * memory goes back to the system.
 */
OSMEM_FN void osmem_watch_alloc(void *p, size_t room, size_t size, bool zero);
OSMEM_FN void osmem_watch_free(void *p, size_t room, bool unmap);

/* A block lost its end, and with it the note: what is left serves it. */
OSMEM_FN void osmem_watch_cut(void *p, size_t room);

/* Memory that is not ours any more. */
OSMEM_FN void osmem_watch_lose(void *p, size_t size);

/* What was asked for. */
OSMEM_FN size_t osmem_watch_size(void *p, size_t room);

/* Memory of a free block becomes the library's own. */
OSMEM_FN void osmem_watch_take(void *p, size_t size);

/* The replacement's blocks are none: there malloc is the watcher's. */
static inline bool osmem_watch_is_on(void)
{
	return !OSMEM_IS_REPLACEMENT && unlikely(osmem_watch_on);
}

/* How much longer blocks are. */
static inline size_t osmem_watch_gap(void)
{
	return osmem_watch_is_on() ? OSMEM_WATCH_GAP : 0;
}

#endif
