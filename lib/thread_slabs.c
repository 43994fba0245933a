/* SPDX-License-Identifier: MIT */
/*
 * thread_slabs.c - a thread's lists of slabs, and the pools.
 *
 * A thread's slabs of a class are partial, full until a slot comes back, or
 * spent, which is at any class's disposal.
 * What a thread leaves behind when it ends goes to its class's pool, which has
 * a lock of its own, and is adopted from there. Must never touch a bin: those
 * are their thread's alone.
 */
#include "thread_state.h"

#include "lock.h"
#include "print.h"

#include <string.h>

enum {
	/* How many slabs of a pool are looked at for a free slot. */
	THREAD_ADOPT_TRIES = 8,
	/* With so much idle memory a thread keeps no slab that is spent. */
	THREAD_SPENT = 4096 * 1024,
	/* Idle bytes that a thread need not tell of. */
	THREAD_UNTOLD = 16 * 1024
};

static struct thread_pool {
	struct osmem_lock lock;
	struct osmem_slab *first; /* linked by next */
} thread_pools[OSMEM_CLASSES];

/* --- a thread's lists of slabs --- */

static void thread_link(struct osmem_slab **list, struct osmem_slab *s)
{
	s->prev = NULL;
	s->next = *list;
	if (s->next != NULL)
		s->next->prev = s;
	*list = s;
}

static void thread_unlink(struct osmem_slab **list, struct osmem_slab *s)
{
	if (s->prev != NULL)
		s->prev->next = s->next;
	else
		*list = s->next;
	if (s->next != NULL)
		s->next->prev = s->prev;
}

void osmem_thread_own(struct osmem_thread *t, struct osmem_slab *s)
{
	s->list = s->class;
	thread_link(&t->lists[s->list], s);
	osmem_thread_count(t, s, osmem_slab_in_use(s), osmem_slab_idle(s));
}

void osmem_thread_disown(struct osmem_thread *t, struct osmem_slab *s)
{
	thread_unlink(&t->lists[s->list], s);
	osmem_thread_count(t, s, -(size_t)osmem_slab_in_use(s),
			   -osmem_slab_idle(s));
}

void osmem_thread_move(struct osmem_thread *t, struct osmem_slab *s,
		       unsigned int list)
{
	thread_unlink(&t->lists[s->list], s);
	s->list = (uint8_t)list;
	thread_link(&t->lists[list], s);
}

void osmem_thread_delete(struct osmem_slab *s)
{
	osmem_lock(&osmem_core_lock);
	osmem_slab_delete(s);
	osmem_unlock(&osmem_core_lock);
}

/* A slab without a slot in use is left to the region, unless it is posted. */
bool osmem_thread_is_spent(const struct osmem_slab *s)
{
	return osmem_slab_in_use(s) == 0 &&
	       atomic_load_explicit(&s->remote, memory_order_relaxed) == 0;
}

void osmem_thread_discard(struct osmem_thread *t, struct osmem_slab *s)
{
	osmem_thread_disown(t, s);
	osmem_thread_delete(s);
}

/*
 * Slots have come back to the slab. A burst needs it again soon when it is
 * spent: a few stay, as idle memory, until there is too much of that or another
 * class needs one.
 */
void osmem_thread_settle(struct osmem_thread *t, struct osmem_slab *s)
{
	if (osmem_thread_is_spent(s)) {
		if (s->units > 1 || t->idle > THREAD_SPENT)
			osmem_thread_discard(t, s);
		else
			osmem_thread_move(t, s, OSMEM_THREAD_SPENT);
	} else if (s->list == OSMEM_THREAD_FULL && osmem_slab_has_slots(s)) {
		osmem_thread_move(t, s, s->class);
	}
}

struct osmem_slab *osmem_thread_take_spent(struct osmem_thread *t,
					   unsigned int class)
{
	struct osmem_slab *s = t->lists[OSMEM_THREAD_SPENT];

	while (s != NULL && s->class != class)
		s = s->next;
	if (s != NULL)
		osmem_thread_move(t, s, class);
	return s;
}

void osmem_thread_give_spent(struct osmem_thread *t)
{
	struct osmem_slab *s = t->lists[OSMEM_THREAD_SPENT];

	if (s == NULL)
		return;
	while (s->next != NULL)
		s = s->next;
	osmem_thread_discard(t, s);
}

uint32_t osmem_thread_take_remote(struct osmem_thread *t, struct osmem_slab *s,
				  bool posted, void **place, uint32_t most)
{
	uint32_t used = osmem_slab_in_use(s);
	size_t idle = osmem_slab_idle(s);
	uint32_t count = osmem_slab_collect(s, posted, place, most);

	if (count != 0)
		t->credit[s->class] = OSMEM_THREAD_CREDIT;
	osmem_thread_account(t, s, used, idle);
	if (count > most || posted)
		osmem_thread_settle(t, s);
	return count < most ? count : most;
}

static void thread_collect_list(struct osmem_thread *t, struct osmem_slab *s)
{
	struct osmem_slab *next;

	for (; s != NULL; s = next) {
		next = s->next;
		osmem_thread_take_remote(t, s, false, NULL, 0);
	}
}

void osmem_thread_collect(struct osmem_thread *t)
{
	unsigned int list;

	osmem_thread_look(t);
	for (list = 0; list < OSMEM_THREAD_LISTS; list++)
		thread_collect_list(t, t->lists[list]);
	/* Those that were posted meanwhile could not go. */
	osmem_thread_look(t);
}

/* Tells the region what is idle, when it has changed by much. */
void osmem_thread_tell(struct osmem_thread *t, ptrdiff_t least)
{
	ptrdiff_t change = t->idle - t->told;

	if (change >= least || change <= -least) {
		t->told = t->idle;
		osmem_region_add_idle(change);
	}
}

void osmem_thread_enter(struct osmem_thread *t)
{
	osmem_lock(&t->lock);
}

void osmem_thread_leave(struct osmem_thread *t)
{
	osmem_thread_tell(t, THREAD_UNTOLD);
	osmem_unlock(&t->lock);
	if (unlikely(osmem_region_should_purge()))
		osmem_thread_trim(false);
}

/*
 * A handler of fork() allocates, and its thread has the core's lock: whoever
 * has another thread's may be waiting for it.
 */
bool osmem_thread_is_forking(void)
{
	return osmem_lock_is_mine(&osmem_core_lock);
}

/* --- pools --- */

/* The pool's lock. */
static void thread_pool_take(struct thread_pool *pool, struct osmem_slab *s)
{
	thread_unlink(&pool->first, s);
	osmem_region_add_idle(-(ptrdiff_t)osmem_slab_idle(s));
	atomic_store_explicit(&s->pooled, 0, memory_order_relaxed);
}

/* The pool's lock. */
static void thread_collect_pooled(struct thread_pool *pool,
				  struct osmem_slab *s)
{
	size_t idle = osmem_slab_idle(s);

	osmem_slab_collect(s, false, NULL, 0);
	osmem_region_add_idle((ptrdiff_t)(osmem_slab_idle(s) - idle));
	if (osmem_thread_is_spent(s)) {
		thread_pool_take(pool, s);
		osmem_thread_delete(s);
	}
}

void osmem_thread_harvest_pooled(struct osmem_slab *s, unsigned int class)
{
	struct thread_pool *pool = &thread_pools[class];

	osmem_lock(&pool->lock);
	/* In this pool for certain: it comes and goes by the lock only. */
	if (atomic_load_explicit(&s->pooled, memory_order_relaxed) == class + 1)
		thread_collect_pooled(pool, s);
	osmem_unlock(&pool->lock);
}

/* What comes back while it changes hands has no other to look after it. */
void osmem_thread_pool_put(struct osmem_slab *s)
{
	unsigned int class = s->class;
	struct thread_pool *pool = &thread_pools[class];

	osmem_lock(&pool->lock);
	osmem_slab_set_owner(s, NULL);
	thread_link(&pool->first, s);
	osmem_region_add_idle((ptrdiff_t)osmem_slab_idle(s));
	atomic_store_explicit(&s->pooled, (uint8_t)(class + 1),
			      memory_order_relaxed);
	osmem_slab_announce(s);
	osmem_unlock(&pool->lock);
	if (osmem_slab_is_ripe(s))
		osmem_thread_harvest_pooled(s, class);
}

/* The fullest of a few that have a free slot, with what others freed. */
struct osmem_slab *osmem_thread_adopt(struct osmem_thread *t,
				      unsigned int class)
{
	struct thread_pool *pool = &thread_pools[class];
	struct osmem_slab *best = NULL;
	struct osmem_slab *s;
	int tries = THREAD_ADOPT_TRIES;

	osmem_lock(&pool->lock);
	for (s = pool->first; s != NULL && tries-- > 0; s = s->next)
		if (osmem_slab_has_slots(s) &&
		    (best == NULL ||
		     osmem_slab_in_use(s) > osmem_slab_in_use(best)))
			best = s;
	if (best != NULL) {
		thread_pool_take(pool, best);
		osmem_slab_set_owner(best, t);
		osmem_slab_announce(best);
		osmem_slab_collect(best, false, NULL, 0);
	}
	osmem_unlock(&pool->lock);
	return best;
}

/* --- giving back --- */

/* Slabs linked by next; what their idle pieces held is not idle any more. */
size_t osmem_thread_tear(struct osmem_slab *s)
{
	size_t bytes = 0;

	for (; s != NULL && !osmem_region_is_refused(); s = s->next)
		if (osmem_slab_idle(s) != 0) {
			bytes += osmem_slab_idle(s);
			osmem_slab_tear(s);
		}
	return bytes;
}

static void thread_collect_pool(struct thread_pool *pool)
{
	struct osmem_slab *s = pool->first;
	struct osmem_slab *next;

	for (; s != NULL; s = next) {
		next = s->next;
		thread_collect_pooled(pool, s);
	}
}

size_t osmem_thread_trim_pools(bool all)
{
	size_t bytes = 0;
	unsigned int class;

	for (class = 0; class < OSMEM_CLASSES; class++) {
		struct thread_pool *pool = &thread_pools[class];
		size_t torn;

		osmem_lock(&pool->lock);
		if (all)
			thread_collect_pool(pool);
		torn = osmem_thread_tear(pool->first);
		osmem_region_add_idle(-(ptrdiff_t)torn);
		osmem_unlock(&pool->lock);
		bytes += torn;
	}
	return bytes;
}

/* --- checking --- */

/* What a thread's slabs add up to. */
struct thread_sums {
	size_t used[OSMEM_CLASSES];
	size_t bytes;
	size_t idle;
};

static int thread_check_list(const struct osmem_slab *s,
			     struct thread_sums *sums)
{
	int faults = 0;

	for (; s != NULL; s = s->next) {
		faults += osmem_slab_check_held(s);
		sums->used[s->class] += osmem_slab_in_use(s);
		sums->bytes += (size_t)osmem_slab_in_use(s) * s->size;
		sums->idle += osmem_slab_idle(s);
	}
	return faults;
}

int osmem_thread_check_one(struct osmem_thread *t)
{
	struct thread_sums sums = { .bytes = 0 };
	unsigned int list;
	bool odd;
	int faults = 0;

	osmem_lock(&t->lock);
	for (list = 0; list < OSMEM_THREAD_LISTS; list++)
		faults += thread_check_list(t->lists[list], &sums);
	odd = sums.bytes != t->bytes || sums.idle != (size_t)t->idle ||
	      memcmp(sums.used, t->used, sizeof(sums.used)) != 0;
	osmem_unlock(&t->lock);
	if (odd)
		osmem_print(2, "%s: heap check: thread %p: odd number of slots "
			       "in use\n",
			    OSMEM_NAME, (void *)t);
	return faults + odd;
}

int osmem_thread_check_pools(void)
{
	struct thread_sums sums = { .bytes = 0 };
	unsigned int class;
	int faults = 0;

	for (class = 0; class < OSMEM_CLASSES; class++) {
		osmem_lock(&thread_pools[class].lock);
		faults += thread_check_list(thread_pools[class].first, &sums);
		osmem_unlock(&thread_pools[class].lock);
	}
	return faults;
}

/* --- fork --- */

void osmem_thread_pools_before_fork(void)
{
	int i;

	for (i = 0; i < OSMEM_CLASSES; i++)
		osmem_lock_before_fork(&thread_pools[i].lock);
}

void osmem_thread_pools_after_fork(void)
{
	int i;

	for (i = 0; i < OSMEM_CLASSES; i++)
		osmem_lock_after_fork(&thread_pools[i].lock);
}
