/* SPDX-License-Identifier: MIT */
/*
 * thread_state.h - what the files of thread share, and nobody else sees. All
 * functions need the thread's lock where nothing else is said.
 */
#ifndef OSMEM_THREAD_STATE_H
#define OSMEM_THREAD_STATE_H

#include "thread.h"

/* The stack of a thread that has ended: nothing can be posted to it. */
OSMEM_VAR struct osmem_slab osmem_thread_closed;

/*
 * Takes and releases a thread's lock; what has become idle meanwhile is told,
 * and purged if it is too much.
 */
OSMEM_FN void osmem_thread_enter(struct osmem_thread *t);
OSMEM_FN void osmem_thread_leave(struct osmem_thread *t);

/* Tells the region what is idle, when it has changed by so much. */
OSMEM_FN void osmem_thread_tell(struct osmem_thread *t, ptrdiff_t least);

/*
 * Refills that may make a bin grow after slots of its class have come back: who
 * only takes them has no use for more, and leaves them when it sleeps.
 */
enum { OSMEM_THREAD_CREDIT = 255 };

/* The bytes of a structure, places for bins behind it included. */
enum { OSMEM_THREAD_AREA = 512 * 1024 };

/*
 * What stands below the slots of a bin, twice: a handler that interrupts malloc
 * between two instructions can make it count down once too often.
 */
enum { OSMEM_THREAD_BELOW = 2 };

static inline void **osmem_thread_begin_place(struct osmem_thread *t,
					      void **place)
{
	place[0] = place[1] = t->no_slot;
	return place + OSMEM_THREAD_BELOW - 1;
}

/* No bin has a place yet. No lock. */
OSMEM_FN void osmem_thread_clear_places(struct osmem_thread *t);

/* The same, of bins that are empty, if it may give many pages back. */
OSMEM_FN void osmem_thread_purge_places(struct osmem_thread *t);

/*
 * The fast path knows sizes up to that of a class, which costs the table's
 * pages up to there. The thread's own, on a slow path.
 */
OSMEM_FN void osmem_thread_know(struct osmem_thread *t, unsigned int last);

/* Empty bins for a structure that is zero. No lock. */
OSMEM_FN void osmem_thread_make_bins(struct osmem_thread *t);

/* What bins may hold; before the first class is hot. */
OSMEM_FN void osmem_thread_make_rules(void);

/* The calling thread's structure, made if need be; NULL without memory. */
OSMEM_FN struct osmem_thread *osmem_thread_attach(void);

/* What a bin may hold, if that much is allowed; no lock. */
OSMEM_FN void osmem_thread_set_most(struct osmem_thread *t, unsigned int class,
				    ptrdiff_t most);

/* Bytes of slots in its bins. No lock: of who has ended, or rests. */
OSMEM_FN size_t osmem_thread_held(const struct osmem_thread *t);

/* So much more is promised to bins of large slots; no lock. */
OSMEM_FN void osmem_thread_lend(ptrdiff_t bytes);

/* Keeps the last so many slots of a bin: one's own, or of who has ended. */
OSMEM_FN void osmem_thread_cut(struct osmem_thread *t, unsigned int class,
			       ptrdiff_t keep);

/* To another list of the thread's. */
OSMEM_FN void osmem_thread_move(struct osmem_thread *t, struct osmem_slab *s,
				unsigned int list);

/* The thread gets a slab, to the list of its class, or loses it. */
OSMEM_FN void osmem_thread_own(struct osmem_thread *t, struct osmem_slab *s);
OSMEM_FN void osmem_thread_disown(struct osmem_thread *t, struct osmem_slab *s);

/* Whether no slot of the slab is in use, here or on the way. */
OSMEM_FN bool osmem_thread_is_spent(const struct osmem_slab *s);

/* A spent slab of the class, on its list again; NULL when there is none. */
OSMEM_FN struct osmem_slab *osmem_thread_take_spent(struct osmem_thread *t,
						    unsigned int class);

/* The one that was spent first goes back to the region, for a new one. */
OSMEM_FN void osmem_thread_give_spent(struct osmem_thread *t);

/* A spent slab, owned or not, goes back to the region. */
OSMEM_FN void osmem_thread_discard(struct osmem_thread *t,
				   struct osmem_slab *s);
OSMEM_FN void osmem_thread_delete(struct osmem_slab *s);

/* The slab has so many slots in use more, and idle bytes. */
static inline void osmem_thread_count(struct osmem_thread *t,
				      const struct osmem_slab *s, size_t used,
				      size_t idle)
{
	t->used[s->class] += used;
	t->bytes += used * s->size;
	t->idle += (ptrdiff_t)idle;
}

/* Slots have come or gone: used and idle were these before. */
static inline void osmem_thread_account(struct osmem_thread *t,
					const struct osmem_slab *s,
					uint32_t used, size_t idle)
{
	osmem_thread_count(t, s, osmem_slab_in_use(s) - (size_t)used,
			   osmem_slab_idle(s) - idle);
}

/* Slots have come back. */
OSMEM_FN void osmem_thread_settle(struct osmem_thread *t, struct osmem_slab *s);

/* Whether the caller is a handler of fork(). No lock. */
OSMEM_FN bool osmem_thread_is_forking(void);

/* Remote frees: to the owner, for the owner (no lock), by the owner. */
OSMEM_FN void osmem_thread_post(struct osmem_slab *s);
OSMEM_FN void osmem_thread_harvest(struct osmem_slab *s);
OSMEM_FN void osmem_thread_look(struct osmem_thread *t);

/* The same for a slab that may be in the pool of a class. No lock. */
OSMEM_FN void osmem_thread_harvest_pooled(struct osmem_slab *s,
					  unsigned int class);

/* As osmem_thread_release, for a slab that is not the thread's. No lock. */
OSMEM_FN bool osmem_thread_release_remote(struct osmem_slab *s, void *ptr);

/* Empties the calling thread's bins when it uses little of what it did. */
OSMEM_FN void osmem_thread_watch(struct osmem_thread *t);

/* The same, by anybody, with what the owner has not been told of. */
OSMEM_FN void osmem_thread_collect(struct osmem_thread *t);

/* Whether others have posted any of a class. */
static inline bool osmem_thread_is_told(const struct osmem_thread *t,
					unsigned int class)
{
	struct osmem_slab *s = atomic_load_explicit(&t->posted[class],
						    memory_order_relaxed);

	return t->taken[class] != NULL ||
	       (s != NULL && s != &osmem_thread_closed);
}

/*
 * Takes what was posted of a class: all, or up to most slots in place, which is
 * how many it returns. close: and lets nothing be posted any more.
 */
OSMEM_FN uint32_t osmem_thread_drain(struct osmem_thread *t, unsigned int class,
				     bool close, void **place, uint32_t most);

/*
 * The owner has put slots back. If these were the last the slab may be posted,
 * and all of it free: then it goes now, with others of its class.
 */
static inline void osmem_thread_settle_put(struct osmem_thread *t,
					   struct osmem_slab *s)
{
	if (osmem_slab_in_use(s) == 0 && !osmem_thread_is_spent(s))
		osmem_thread_drain(t, s->class, false, NULL, 0);
	else if (s->list == OSMEM_THREAD_FULL || osmem_slab_in_use(s) == 0)
		osmem_thread_settle(t, s);
}

/* What others have freed in the slab, in the same way; posted as there. */
OSMEM_FN uint32_t osmem_thread_take_remote(struct osmem_thread *t,
					   struct osmem_slab *s, bool posted,
					   void **place, uint32_t most);

/* To a pool, and from it: NULL when it has none with a free slot. */
OSMEM_FN void osmem_thread_pool_put(struct osmem_slab *s);
OSMEM_FN struct osmem_slab *osmem_thread_adopt(struct osmem_thread *t,
					       unsigned int class);

/*
 * Gives back the idle pieces of a list of slabs; of the pools, all: after what
 * has been freed is collected. The bytes.
 */
OSMEM_FN size_t osmem_thread_tear(struct osmem_slab *s);
OSMEM_FN size_t osmem_thread_trim_pools(bool all);

/*
 * Verifies a thread's slabs, or those of the pools, and what is counted of
 * them. The number of faults. No lock.
 */
OSMEM_FN int osmem_thread_check_one(struct osmem_thread *t);
OSMEM_FN int osmem_thread_check_pools(void);

OSMEM_FN void osmem_thread_pools_before_fork(void);
OSMEM_FN void osmem_thread_pools_after_fork(void);

#endif
