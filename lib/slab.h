/* SPDX-License-Identifier: MIT */
/*
 * slab.h - a slab: units cut into slots of one size class, and its record.
 *
 * A slot is handed out, or free in exactly one place: its owner's bin for the
 * class (thread.h), the slab's map, its remote list (what other threads
 * freed), not carved yet, or gone with its pages. The map is a bit for each
 * slot, out of line. A free slot's second word is the mark: the process's
 * secret and the address, written by every free, and looked for and cleared by
 * every allocation. So a second free is seen, or else the second allocation;
 * and the mark of one slot is none in another, whatever a program copies. The
 * first word is the link of the remote list: numbers of slots, mixed with the
 * slab's secret. A slot that is no longer what a free has left is reported
 * when it is met, and leads nowhere.
 *
 * A slab is divided into pieces: its pages, or its slots when those are no
 * smaller. Each has a count of the slots in use that touch it, so one without
 * any is known at once, and can be given back.
 *
 * Who holds the slab (the lock of its owner, or of the pool that it is in) may
 * touch its record; the words that others read are atomic.
 */
#ifndef OSMEM_SLAB_H
#define OSMEM_SLAB_H

#include "class.h"
#include "region.h"

#include <stdatomic.h>

struct osmem_thread;

/* A word that other threads change, as wide as one instruction can. */
typedef uintptr_t osmem_slab_word;

enum { OSMEM_SLAB_PIECES = 16, OSMEM_SLAB_FEW = 10 };

struct osmem_slab {
	/*
	 * The line that other threads write: links, count of slots, posted.
	 * Aligned for osmem_slab_head; first, as what free reads keeps off the
	 * start of pages (region.c).
	 */
	_Alignas(OSMEM_RECORD) _Atomic(osmem_slab_word) remote;
	/* Its class + 1 while it is in that pool, under the pool's lock. */
	_Atomic(uint8_t) pooled;
	/*
	 * Slots that are neither here nor gone: the holder writes; who frees
	 * from outside reads it to see that nothing is left in use. Relaxed: a
	 * wrong guess costs one look under the lock.
	 */
	_Atomic(uint32_t) used;
	struct osmem_slab *posted_next;
	struct osmem_slab *prev;
	struct osmem_slab *next;
	uint32_t idle; /* pieces that have memory and no slot in use */
	/* Bytes above carved that were, and went. The holder writes. */
	_Atomic(uint32_t) absent;

	/*
	 * Read by anybody who frees, relaxed: whoever reads itself is the
	 * owner, and nobody else can make that untrue but by tearing the slab,
	 * which adds OSMEM_SLAB_TORN: then even the owner takes the slow path.
	 */
	_Alignas(64) _Atomic(uintptr_t) owner;
	char *start;
	/* Of the slot's size, and of how much is carved: osmem_slab_is_slot. */
	uint64_t magic;
	_Atomic(uintptr_t) bound;
	uintptr_t secret; /* in links of free slots */
	/*
	 * Bytes cut into slots so far. The holder writes it and bound, others
	 * read, relaxed: whoever was handed a slot sees it carved.
	 */
	_Atomic(uint32_t) carved;
	uint32_t size; /* of a slot */
	uint8_t class;
	uint8_t list; /* of its owner's, that it stands in */
	uint16_t units;
	/* Pieces without their memory. The holder writes, walkers read. */
	_Atomic(uint32_t) gone;
	uint32_t most; /* bytes that can be carved */
	/* Slots of a 16th of it, to the next power of two; or for nobody. */
	uint16_t part;
	bool by_slot; /* each slot is a piece */
	bool dirty;   /* what is not carved yet has its memory */

	/* The slots that are free here, and the words of that with any. */
	_Alignas(64) uint64_t *map;
	uint64_t ready;
	uint64_t few[OSMEM_SLAB_FEW]; /* the map, where that is enough */
	uint16_t busy[OSMEM_SLAB_PIECES]; /* slots in use that touch it */
};

_Static_assert(sizeof(struct osmem_slab) == OSMEM_RECORD, "a unit's record");

/* In owner: some pieces are gone, or the door is shut. */
enum { OSMEM_SLAB_TORN = 1 };

/*
 * Every slab that gets an owner is torn: the door is shut, by so many. Relaxed:
 * who must see it is given the slabs' names anew, under their locks.
 */
OSMEM_VAR atomic_int osmem_slab_shut;

/*
 * remote, from below: the slab stands on its owner's stack of posted slabs; how
 * many slots there are in the list; the first ones of them, numbers from 1, up
 * to the highest bit. A slot has those after it in the same way: who collects
 * the list fetches them ahead. With 32 bits there is room for one.
 */
enum {
	OSMEM_SLAB_POSTED = 1,
	OSMEM_SLAB_ONE = 2, /* slot more */
	OSMEM_SLAB_LINK = 13, /* bits */
	OSMEM_SLAB_LINKS = UINTPTR_MAX > UINT32_MAX ? 3 : 1,
	OSMEM_SLAB_LINK_BITS = OSMEM_SLAB_LINK * OSMEM_SLAB_LINKS,
	OSMEM_SLAB_LINK_SHIFT = 8 * sizeof(uintptr_t) - OSMEM_SLAB_LINK_BITS
};

static inline uint32_t osmem_slab_count(osmem_slab_word remote)
{
	return (uint32_t)remote % (1U << OSMEM_SLAB_LINK_SHIFT) /
	       OSMEM_SLAB_ONE;
}

/* The logarithm of a piece that is no slot: pages, 16 to a unit at most. */
OSMEM_VAR unsigned int osmem_slab_piece_shift;

/* Stands for the slab where there is none; its owner is no thread. */
OSMEM_VAR struct osmem_slab osmem_slab_nobody;

/*
 * The process's secret, of which marks are made; set once. Odd, so no mark is a
 * small number or a pointer.
 */
OSMEM_VAR uintptr_t osmem_slab_key;

static inline uintptr_t osmem_slab_mark(const void *slot)
{
	return osmem_slab_key ^ (uintptr_t)slot;
}

/* Whether the second word of a slot, which has its memory, is the mark. */
static inline bool osmem_slab_is_marked(const void *slot)
{
	return ((const uintptr_t *)slot)[1] == osmem_slab_mark(slot);
}

static inline void osmem_slab_set_mark(void *slot)
{
	((uintptr_t *)slot)[1] = osmem_slab_mark(slot);
}

static inline struct osmem_slab *osmem_slab_record(size_t unit)
{
	return (struct osmem_slab *)(osmem_region.records +
				     unit * OSMEM_RECORD);
}

static inline uint32_t osmem_slab_carved(const struct osmem_slab *s)
{
	return atomic_load_explicit(&s->carved, memory_order_relaxed);
}

/* The owner, whether the slab is torn or not; NULL for none. */
static inline struct osmem_thread *osmem_slab_owner(const struct osmem_slab *s)
{
	return (struct osmem_thread *)(
		atomic_load_explicit(&s->owner, memory_order_relaxed) &
		~(uintptr_t)OSMEM_SLAB_TORN);
}

static inline uint32_t osmem_slab_in_use(const struct osmem_slab *s)
{
	return atomic_load_explicit(&s->used, memory_order_relaxed);
}

/* Slots freed by others that wait to be collected. */
static inline uint32_t osmem_slab_waiting(const struct osmem_slab *s)
{
	return osmem_slab_count(
		atomic_load_explicit(&s->remote, memory_order_relaxed));
}

/*
 * Whether p, in one of the slab's units, is the start of a carved slot: one
 * comparison. magic is 2^64 / size rounded down, plus 1, so size * magic is
 * 2^64 + e with 0 < e <= size, and the offset k * size + r times magic is,
 * modulo 2^64, k * e + r * magic. For r = 0 that is below bound = slots * e
 * just when k < slots. For other r it is at least magic, which is above bound,
 * and does not wrap, as (k + 1) * e < magic: see the assertion in slab.c.
 */
static inline bool osmem_slab_is_slot(const struct osmem_slab *s, const void *p)
{
	uint64_t offset = (uintptr_t)p - (uintptr_t)s->start;

	return offset * s->magic <
	       atomic_load_explicit(&s->bound, memory_order_relaxed);
}

static inline uint32_t osmem_slab_absent(const struct osmem_slab *s)
{
	return atomic_load_explicit(&s->absent, memory_order_relaxed);
}

/* Whether a carved slot is free, wherever: marked, or gone. */
OSMEM_FN bool osmem_slab_is_free(const struct osmem_slab *s, const void *slot);

/* A unit's head: its slab, and in the low byte the class, which free needs. */
static inline uintptr_t osmem_slab_head(const struct osmem_slab *s)
{
	return (uintptr_t)s | s->class;
}

static inline struct osmem_slab *osmem_slab_headed(uintptr_t head)
{
	return (struct osmem_slab *)(head & ~(uintptr_t)(OSMEM_RECORD - 1));
}

/* The slab of p, which the region holds, by its table; maybe nobody's. */
static inline struct osmem_slab *osmem_slab_held(const void *p)
{
	return osmem_slab_headed(
		osmem_region.heads[((uintptr_t)p -
				    (uintptr_t)osmem_region.base) >>
				   OSMEM_UNIT_SHIFT]);
}

/* The same for any p. */
static inline struct osmem_slab *osmem_slab_or_nobody(const void *p)
{
	return osmem_region_holds(p) ? osmem_slab_held(p) : &osmem_slab_nobody;
}

/* The same; NULL for nobody's. */
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

/* Verifies the map and the remote list, and counts against them. Held. */
OSMEM_FN int osmem_slab_check_held(const struct osmem_slab *s);

/* A fresh slab of a class for an owner; NULL without space. Core's lock. */
OSMEM_FN struct osmem_slab *osmem_slab_new(unsigned int class,
					   struct osmem_thread *owner);

/* An empty slab's units go back. Held, and the core's lock. */
OSMEM_FN void osmem_slab_delete(struct osmem_slab *s);

/* Changes hands, or says its owner's name again. Held by both. */
OSMEM_FN void osmem_slab_set_owner(struct osmem_slab *s,
				   struct osmem_thread *owner);

/* Whether osmem_slab_take() can give anything. Held. */
OSMEM_FN bool osmem_slab_has_slots(const struct osmem_slab *s);

/*
 * Takes up to count slots, which count as used then: free ones, those that were
 * gone among them, or else fresh ones. They are stored in place, the first as
 * the last, their marks not verified. How many; 0 when there are none. Held.
 */
OSMEM_FN uint32_t osmem_slab_take(struct osmem_slab *s, void **place,
				  uint32_t count);

/*
 * Marked slots come back to the slab, up to the first that is not
 * the slab's. How many. Held.
 */
OSMEM_FN size_t osmem_slab_put(struct osmem_slab *s, void *const *slots,
			       size_t count);

/*
 * After slots were put back: takes what others have freed, if that is a good
 * part of what is left, and the owner has not been told. Held.
 */
OSMEM_FN void osmem_slab_catch_up(struct osmem_slab *s);

/*
 * Nobody's for good: what is freed is added to the remote list, and does not
 * count as waiting. In the child of a fork, of a thread that is gone.
 */
OSMEM_FN void osmem_slab_freeze(struct osmem_slab *s);

/* Bytes that count as waiting in its remote list. */
OSMEM_FN size_t osmem_slab_waits(const struct osmem_slab *s);

/* Bytes of memory that osmem_slab_tear() would give back. Held. */
static inline size_t osmem_slab_idle(const struct osmem_slab *s)
{
	return s->by_slot ? (size_t)s->idle * s->size :
			    (size_t)s->idle << osmem_slab_piece_shift;
}

/* Gives pieces without a slot in use back to the system. Held. */
OSMEM_FN void osmem_slab_tear(struct osmem_slab *s);

/*
 * After its owner's or its pool's name was written: who frees a slot from now
 * on sees that, and what was freed before is seen here. Both are changes of one
 * word, so one comes first, and the other acquires what it released.
 */
static inline void osmem_slab_announce(struct osmem_slab *s)
{
	atomic_fetch_or_explicit(&s->remote, 0, memory_order_acq_rel);
}

/*
 * Whether nothing is in use but what others have freed, or not even that: who
 * collected it may have left the slab because it was posted.
 */
static inline bool osmem_slab_is_ripe(const struct osmem_slab *s)
{
	return osmem_slab_waiting(s) >= osmem_slab_in_use(s);
}

/*
 * Takes the remote list over: up to most of its slots are stored in place, the
 * first as the last, and stay in use; the rest comes back to the slab.
 * How many there were. posted says whether the slab has just come off its
 * owner's stack. Held.
 */
OSMEM_FN uint32_t osmem_slab_collect(struct osmem_slab *s, bool posted,
				     void **place, uint32_t most);

#endif
