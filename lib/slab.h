/* SPDX-License-Identifier: MIT */
/*
 * slab.h - a slab: units cut into slots of one size class, and its record.
 *
 * A slot is handed out, or free in exactly one place: its owner's list for the
 * class (thread.h), the slab's own list, its remote list (what other threads
 * freed), or not carved yet. A free slot's first word is the link, its second
 * the mark: the slab's secret, written by every free and cleared by every
 * allocation, so that a second free is seen. Only the
 * owner touches a record, but for the remote list.
 */
#ifndef OSMEM_SLAB_H
#define OSMEM_SLAB_H

#include "class.h"
#include "region.h"

#include <stdatomic.h>

struct osmem_thread;

enum osmem_slab_state {
	OSMEM_SLAB_PARTIAL, /* the owner's, may have free slots */
	OSMEM_SLAB_FULL,    /* the owner's, has none */
	OSMEM_SLAB_POOLED   /* nobody's, in its class's pool */
};

struct osmem_slab {
	/*
	 * Written by the owner, or under the pool's lock when there is none;
	 * read by anybody who frees, relaxed: whoever reads itself is the
	 * owner, and nobody else can make that untrue.
	 */
	_Atomic(struct osmem_thread *) owner;
	char *start;
	uint64_t magic; /* of the slot's size: see osmem_slab_is_slot() */
	uintptr_t mark; /* in free slots */
	/* Bytes cut into slots so far: owner writes, others read, relaxed. */
	_Atomic(uint32_t) carved;
	uint32_t size; /* of a slot */
	uint8_t class;
	uint8_t state;
	uint16_t units;
	uint32_t used; /* slots that are neither here nor remote */
	void *free;
	/* The line that other threads write. */
	_Alignas(64) _Atomic(uintptr_t) remote; /* list | posted */
	struct osmem_slab *posted_next;
	struct osmem_slab *prev;
	struct osmem_slab *next;
	uint32_t most; /* bytes that can be carved */
};

_Static_assert(sizeof(struct osmem_slab) == OSMEM_RECORD, "a unit's record");

/* remote: the slab stands on its owner's stack of posted slabs. */
enum { OSMEM_SLAB_POSTED = 1 };

/* Stands for the slab where there is none; its owner is no thread. */
OSMEM_VAR struct osmem_slab osmem_slab_nobody;

/* The process's secret, of which marks are made; set once. */
OSMEM_VAR uintptr_t osmem_slab_key;

static inline struct osmem_slab *osmem_slab_record(size_t unit)
{
	return (struct osmem_slab *)(osmem_region.records +
				     unit * OSMEM_RECORD);
}

static inline uint32_t osmem_slab_carved(const struct osmem_slab *s)
{
	return atomic_load_explicit(&s->carved, memory_order_relaxed);
}

/* Slots cut so far. */
static inline uint32_t osmem_slab_slots(const struct osmem_slab *s)
{
	return osmem_slab_carved(s) / s->size;
}

/*
 * Whether an offset is a multiple of the slot size: with magic = 2^64 / size
 * rounded up, offset * magic modulo 2^64 is below magic just then, for
 * offsets and sizes below 2^32.
 */
static inline bool osmem_slab_is_slot(const struct osmem_slab *s, const void *p)
{
	uint64_t offset = (uintptr_t)p - (uintptr_t)s->start;

	return offset < osmem_slab_carved(s) &&
	       offset * s->magic < s->magic;
}

static inline bool osmem_slab_is_marked(const struct osmem_slab *s,
					const void *slot)
{
	return ((const uintptr_t *)slot)[1] == s->mark;
}

/* The slab of p by the region's records; NULL when p is in none. */
OSMEM_FN struct osmem_slab *osmem_slab_of(const void *p);

/*
 * The first slab that starts above p, NULL at the end: for walking. The core's
 * lock keeps slabs from coming and going.
 */
OSMEM_FN struct osmem_slab *osmem_slab_above(const void *p);

/* How many of its slots are in use: by their marks. Core's lock. */
OSMEM_FN size_t osmem_slab_used(const struct osmem_slab *s);

/* Verifies records, heads and the region's count. The number of faults. */
OSMEM_FN int osmem_slab_check(void);

/* A fresh slab of a class for an owner; NULL without space. Core's lock. */
OSMEM_FN struct osmem_slab *osmem_slab_new(unsigned int class,
					   struct osmem_thread *owner);

/* An empty slab's units go back. Core's lock. */
OSMEM_FN void osmem_slab_delete(struct osmem_slab *s);

/*
 * Takes up to count free or fresh slots, which count as used then. They are
 * linked; *taken says how many. NULL when there are none. Owner.
 */
OSMEM_FN void *osmem_slab_take(struct osmem_slab *s, uint32_t count,
			       uint32_t *taken);

/* A slot comes back to the slab's own list. Owner. */
static inline void osmem_slab_put(struct osmem_slab *s, void *p)
{
	*(void **)p = s->free;
	s->free = p;
	s->used--;
}

/*
 * Frees a slot of somebody else's slab. True when the caller must post the
 * slab to its owner: the slab was not posted.
 */
OSMEM_FN bool osmem_slab_free_remote(struct osmem_slab *s, void *p);

/*
 * Takes the remote list over to the slab's own. Whether there was any. posted
 * says whether the slab has just come off its owner's stack. Owner.
 */
OSMEM_FN bool osmem_slab_collect(struct osmem_slab *s, bool posted);

#endif
