/* SPDX-License-Identifier: MIT */
/*
 * init.h - getting ready, once, however early the first call comes.
 */
#ifndef OSMEM_INIT_H
#define OSMEM_INIT_H

#include "common.h"

#include <stdatomic.h>

/*
 * Set with release when everything is in place, read with acquire: who sees it
 * sees the key, the options and the tables.
 */
OSMEM_VAR atomic_bool osmem_init_done;

OSMEM_FN OSMEM_COLD void osmem_init_now(void);

/* No lock may be held. */
static inline void osmem_init(void)
{
	if (unlikely(!atomic_load_explicit(&osmem_init_done,
					   memory_order_acquire)))
		osmem_init_now();
}

/*
 * Whether everything is in place, no slab serves anybody (mode exact), and
 * nobody wants to see each call. Written with release, read with acquire; who
 * sees an old value has called before it changed.
 */
OSMEM_VAR atomic_bool osmem_init_plain;

static inline bool osmem_init_is_plain(void)
{
	return atomic_load_explicit(&osmem_init_plain, memory_order_acquire);
}

/*
 * Whether everything is in place, and nobody but slabs wants to see a request
 * for a class that is hot. Written and read in the same way.
 */
OSMEM_VAR atomic_bool osmem_init_open;

static inline bool osmem_init_is_open(void)
{
	return atomic_load_explicit(&osmem_init_open, memory_order_acquire);
}

/* The page size of the calloc rule. */
OSMEM_FN size_t osmem_init_page_size(void);

/* Makes what the options say take effect. */
OSMEM_FN void osmem_init_apply_options(void);

/* The same for the option sites. No lock may be held. */
OSMEM_FN void osmem_init_apply_sites(void);

/* And the option fail, the door included. No lock, one thread at a time. */
OSMEM_FN void osmem_init_apply_rule(void);

/* Sets osmem_init_plain and _open, and osmem_hard_alone. No lock. */
OSMEM_FN void osmem_init_look(void);

#endif
