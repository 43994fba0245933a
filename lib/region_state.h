/* SPDX-License-Identifier: MIT */
/*
 * region_state.h - what region.c and region_idle.c share, and nobody else sees.
 * All of it needs the core's lock where nothing else is said.
 */
#ifndef OSMEM_REGION_STATE_H
#define OSMEM_REGION_STATE_H

#include "region.h"
#include "runs.h"

/* Units below the frontier: free ones, with their memory or not; in slabs. */
struct osmem_region_units {
	struct osmem_runs dirty;
	struct osmem_runs clean;
	size_t used;
};

OSMEM_VAR struct osmem_region_units osmem_region_units;

/* Units have been taken for a slab, or have come back. */
OSMEM_FN void osmem_region_took(void);
OSMEM_FN void osmem_region_gave(void);

/* How many units stay dirty when they are purged now, of all none. */
OSMEM_FN size_t osmem_region_purges(bool all);

/* So many bytes of units have been given back. No lock. */
OSMEM_FN void osmem_region_add_purged(size_t bytes);

/* There are fewer dirty units: slabs may have more that is idle. */
OSMEM_FN void osmem_region_make_room(void);

/* Bytes of slabs in pages without a slot in use. No lock. */
OSMEM_FN size_t osmem_region_idle_pages(void);

#endif
