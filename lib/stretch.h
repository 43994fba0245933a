/* SPDX-License-Identifier: MIT */
/*
 * stretch.h - the heap's space: contiguous stretches, by brk or by mmap.
 *
 * Says whether an address is the heap's, and gets more space: at the break,
 * where the contract wants it and nobody else can be in the way, else as a
 * mapping. All functions need the core's lock.
 */
#ifndef OSMEM_STRETCH_H
#define OSMEM_STRETCH_H

#include "common.h"

struct osmem_stretch {
	char *start;
	char *end;
};

/* Finds out whose malloc it is. Once, before anything else, without a lock. */
OSMEM_FN void osmem_stretch_init(void);

/* What every operation asks for. */
struct osmem_stretch_state {
	struct osmem_stretch found; /* the last that was; or empty */
	char *break_end; /* of our highest space below the break, or NULL */
};

OSMEM_VAR struct osmem_stretch_state osmem_stretch;

/* Finds the stretch that holds p, and remembers it as the last. */
OSMEM_FN bool osmem_stretch_search(const void *p);

static inline bool osmem_stretch_holds(struct osmem_stretch s, const void *p)
{
	return (uintptr_t)p - (uintptr_t)s.start < (size_t)(s.end - s.start);
}

/* The stretch that holds p; false when there is none. */
static inline bool osmem_stretch_find(const void *p,
				      struct osmem_stretch *found)
{
	if (unlikely(!osmem_stretch_holds(osmem_stretch.found, p)) &&
	    !osmem_stretch_search(p))
		return false;
	*found = osmem_stretch.found;
	return true;
}

/* The first stretch that starts above p; false when there is none. */
OSMEM_FN bool osmem_stretch_above(const void *p, struct osmem_stretch *found);

/* Whether new space may come from the break now (contract, rule 23a). */
OSMEM_FN bool osmem_stretch_may_break(void);

/* Whether the break may move and stands where we left it. */
OSMEM_FN bool osmem_stretch_at_break(void);

/*
 * Moves the break, which is at our end, up by *size bytes; by more, and says
 * so there, once the heap grows in chunks. A multiple of the alignment.
 */
OSMEM_FN bool osmem_stretch_extend(size_t *size);

/*
 * A new stretch of at least size bytes (a multiple of the alignment), just so
 * many at the break until the heap grows in chunks: at the break, wherever that
 * is, after padding; or a mapped one.
 */
OSMEM_FN bool osmem_stretch_new_at_break(size_t size,
					 struct osmem_stretch *out);
OSMEM_FN bool osmem_stretch_new_mapped(size_t size, struct osmem_stretch *out);

/*
 * Forgets all space at the break from keep on: somebody has moved it down.
 * No block may be cut in two by keep.
 */
OSMEM_FN void osmem_stretch_cut(char *keep);

OSMEM_FN size_t osmem_stretch_count(void);
OSMEM_FN size_t osmem_stretch_bytes(void);
OSMEM_FN unsigned long osmem_stretch_growths(void);

/* Verifies the table. The number of faults. */
OSMEM_FN int osmem_stretch_check(void);

#endif
