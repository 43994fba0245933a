/* SPDX-License-Identifier: MIT */
/*
 * sites.h - where blocks were allocated and first freed, for reports.
 *
 * Off, this is one load on slow paths. On (option sites), the door must be
 * shut, so that every operation is seen. Any thread may call everything here;
 * no lock of the library may be held.
 */
#ifndef OSMEM_SITES_H
#define OSMEM_SITES_H

#include "lock.h"

enum osmem_site { OSMEM_SITE_ALLOC, OSMEM_SITE_FREE, OSMEM_SITES };

/*
 * Set once the table is there, with release; read relaxed: who reads it too
 * early misses an operation.
 */
OSMEM_VAR atomic_bool osmem_sites_on;

/* Guards the table; fork must pass it on. */
OSMEM_VAR struct osmem_lock osmem_sites_lock;

OSMEM_FN OSMEM_COLD void osmem_sites_record(const void *p,
					    enum osmem_site which);

/* From then on there may be no frames, as libc may not be asked for them. */
OSMEM_FN void osmem_sites_after_fork_in_child(void);

/* p has been allocated, or is about to be freed. NULL is nothing. */
static inline void osmem_sites_note(const void *p, enum osmem_site which)
{
	if (unlikely(atomic_load_explicit(&osmem_sites_on,
					  memory_order_relaxed)) &&
	    p != NULL)
		osmem_sites_record(p, which);
}

/*
 * Starts recording, or ends it. Starting allocates, as libc loads its unwinder
 * when it is used first. Nothing is recorded without memory for the table.
 */
OSMEM_FN OSMEM_COLD void osmem_sites_set(bool on);

/*
 * Where p lies in the modules that are loaded, with the symbol before it, as
 * text. False when it is in none. Allocates nothing.
 */
OSMEM_FN OSMEM_COLD bool osmem_sites_module(const void *p, char *buf,
					    size_t size);

/*
 * Prints where p was allocated, and where it was first freed if that is not
 * the very call that is reported.
 */
OSMEM_FN OSMEM_COLD void osmem_sites_print(const void *p, bool freed);

#endif
