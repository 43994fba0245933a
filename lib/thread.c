/* SPDX-License-Identifier: MIT */
/*
 * thread.c - refilling a thread's lists, remote frees, exit, adoption.
 *
 * A thread's slabs of a class are partial, and its bin is refilled from the
 * first of them, or full, until a slot comes back. What a thread leaves behind
 * when it ends goes to its class's pool, which has a lock of its own, and is
 * adopted from there. Structures of threads are used again
 * and never unmapped, so a stale owner can be read. Must never hold two pools'
 * locks, nor a pool's and the core's in another order than this.
 */
#include "thread.h"

#include "check.h"
#include "die.h"
#include "lock.h"
#include "sys.h"

#include <pthread.h>
#include <string.h>

static struct osmem_thread thread_none;

OSMEM_VAR_DEFINED __thread struct osmem_thread *osmem_thread_self
	__attribute__((tls_model("initial-exec"))) = &thread_none;
OSMEM_VAR_DEFINED _Atomic(uint8_t) osmem_thread_classes[OSMEM_THREAD_STEPS];

/* The stack of a thread that has ended: nothing can be posted to it. */
static struct osmem_slab thread_closed;

enum {
	/* How many slabs of a pool are looked at for a free slot. */
	THREAD_ADOPT_TRIES = 8,
	/* A bin starts small and doubles while it proves too small. */
	THREAD_BIN_FIRST = 2048,
	THREAD_BIN_MOST = 64 * 1024,
	THREAD_BIN_SLOTS = 512
};

static struct thread_pool {
	struct osmem_lock lock;
	struct osmem_slab *first; /* linked by next */
} thread_pools[OSMEM_CLASSES];

/* Under the core's lock. */
static struct {
	struct osmem_thread *unused;
	struct osmem_thread *chunk; /* of structures not used yet */
	size_t left;
	pthread_key_t key;
	bool open;
	bool tried;
} threads;

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

static void thread_delete(struct osmem_slab *s)
{
	bool purge;

	osmem_lock(&osmem_core_lock);
	osmem_slab_delete(s);
	purge = osmem_region_should_purge();
	osmem_unlock(&osmem_core_lock);
	if (purge)
		osmem_region_purge();
}

/* A slab without a slot in use goes, unless it is posted. */
static void thread_retire(struct osmem_thread *t, struct osmem_slab *s)
{
	if (s->used != 0 ||
	    atomic_load_explicit(&s->remote, memory_order_relaxed) != 0)
		return;
	thread_unlink(&t->partial[s->class], s);
	thread_delete(s);
}

/* Slots have come back to the slab. */
static void thread_settle(struct osmem_thread *t, struct osmem_slab *s)
{
	if (s->state == OSMEM_SLAB_FULL) {
		thread_unlink(&t->full, s);
		s->state = OSMEM_SLAB_PARTIAL;
		thread_link(&t->partial[s->class], s);
	}
	thread_retire(t, s);
}

static void thread_take_remote(struct osmem_thread *t, struct osmem_slab *s,
			       bool posted)
{
	if (osmem_slab_collect(s, posted) || posted)
		if (s->free != NULL)
			thread_settle(t, s);
}

/* --- remote frees --- */

/*
 * The slab's posted bit is ours: it stands on no stack. The owner may end
 * meanwhile; what it leaves is collected by who adopts it.
 */
static void thread_post(struct osmem_slab *s)
{
	struct osmem_thread *t =
		atomic_load_explicit(&s->owner, memory_order_relaxed);
	struct osmem_slab *top;

	if (t != NULL) {
		top = atomic_load_explicit(&t->posted, memory_order_relaxed);
		while (top != &thread_closed) {
			s->posted_next = top;
			if (atomic_compare_exchange_weak_explicit(
				    &t->posted, &top, s, memory_order_release,
				    memory_order_relaxed))
				return;
		}
	}
	/* The next who sets it writes posted_next after we have. */
	atomic_fetch_and_explicit(&s->remote,
				  ~(uintptr_t)OSMEM_SLAB_POSTED,
				  memory_order_release);
}

/* Takes what was posted; closed: and lets nothing be posted any more. */
static void thread_drain(struct osmem_thread *t, bool close)
{
	struct osmem_slab *s;
	struct osmem_slab *next;

	if (!close && atomic_load_explicit(&t->posted,
					   memory_order_relaxed) == NULL)
		return;
	s = atomic_exchange_explicit(&t->posted, close ? &thread_closed : NULL,
				     memory_order_acquire);
	for (; s != NULL && s != &thread_closed; s = next) {
		next = s->posted_next;
		/* Posted to who owned it before this structure was reused. */
		if (atomic_load_explicit(&s->owner, memory_order_relaxed) != t)
			thread_post(s);
		else
			thread_take_remote(t, s, true);
	}
}

void osmem_thread_release(struct osmem_slab *s, void *ptr)
{
	if (osmem_thread_free(ptr))
		return;
	if (osmem_slab_free_remote(s, ptr))
		thread_post(s);
}

/* --- pools --- */

static void thread_pool_put(struct osmem_slab *s)
{
	struct thread_pool *pool = &thread_pools[s->class];

	osmem_lock(&pool->lock);
	s->state = OSMEM_SLAB_POOLED;
	atomic_store_explicit(&s->owner, NULL, memory_order_relaxed);
	thread_link(&pool->first, s);
	osmem_unlock(&pool->lock);
}

static bool thread_has_slots(const struct osmem_slab *s)
{
	return s->free != NULL || osmem_slab_carved(s) < s->most ||
	       atomic_load_explicit(&s->remote, memory_order_relaxed) >
		       OSMEM_SLAB_POSTED;
}

/* The fullest of a few that have a free slot. */
static struct osmem_slab *thread_adopt(struct osmem_thread *t,
				       unsigned int class)
{
	struct thread_pool *pool = &thread_pools[class];
	struct osmem_slab *best = NULL;
	struct osmem_slab *s;
	int tries = THREAD_ADOPT_TRIES;

	osmem_lock(&pool->lock);
	for (s = pool->first; s != NULL && tries-- > 0; s = s->next)
		if (thread_has_slots(s) &&
		    (best == NULL || s->used > best->used))
			best = s;
	if (best != NULL) {
		thread_unlink(&pool->first, best);
		best->state = OSMEM_SLAB_PARTIAL;
		atomic_store_explicit(&best->owner, t, memory_order_relaxed);
	}
	osmem_unlock(&pool->lock);
	return best;
}

/* --- refilling and flushing --- */

/* What a bin may hold: more, when it proves too small. */
static void thread_widen(struct osmem_thread *t, unsigned int class)
{
	ptrdiff_t size = (ptrdiff_t)osmem_class_size(class);
	ptrdiff_t most = t->most[class];
	ptrdiff_t limit = THREAD_BIN_MOST / size;

	if (limit < 4)
		limit = 4;
	if (limit > THREAD_BIN_SLOTS)
		limit = THREAD_BIN_SLOTS;
	most = most == 0 ? THREAD_BIN_FIRST / size : 2 * most;
	if (most < 2)
		most = 2;
	if (most > limit)
		most = limit;
	t->room[class] += most - t->most[class];
	t->most[class] = most;
}

/* A partial slab of the thread's, or a new one. Never one without slots. */
static struct osmem_slab *thread_next_slab(struct osmem_thread *t,
					   unsigned int class)
{
	struct osmem_slab *s = t->partial[class];

	if (s != NULL)
		return s;
	s = thread_adopt(t, class);
	if (s == NULL) {
		osmem_lock(&osmem_core_lock);
		s = osmem_slab_new(class, t);
		osmem_unlock(&osmem_core_lock);
	}
	if (s != NULL)
		thread_link(&t->partial[class], s);
	return s;
}

/* Slots out of the slab; it becomes full when it has none. */
static void *thread_take(struct osmem_thread *t, struct osmem_slab *s,
			 uint32_t count, uint32_t *taken)
{
	void *list;

	if (s->free == NULL)
		osmem_slab_collect(s, false);
	list = osmem_slab_take(s, count, taken);
	if (list == NULL) {
		thread_unlink(&t->partial[s->class], s);
		s->state = OSMEM_SLAB_FULL;
		thread_link(&t->full, s);
	}
	return list;
}

static struct osmem_thread *thread_attach(void);

void *osmem_thread_refill(unsigned int class)
{
	struct osmem_thread *t = thread_attach();
	struct osmem_slab *s;
	uint32_t count;
	void **list = NULL;

	if (t == NULL)
		return NULL;
	thread_drain(t, false);
	thread_widen(t, class);
	while (list == NULL) {
		s = thread_next_slab(t, class);
		if (s == NULL)
			return NULL;
		list = thread_take(t, s, (uint32_t)(t->most[class] + 1) / 2,
				   &count);
	}
	t->limit = atomic_load_explicit(&osmem_region.limit,
					memory_order_acquire);
	t->list[class] = list[0];
	t->room[class] -= count - 1;
	list[1] = NULL;
	return list;
}

/* Everything from slot on goes back to the slabs, all the thread's own. */
static void thread_return(struct osmem_thread *t, void *slot)
{
	struct osmem_slab *s;
	void *next;

	for (; slot != NULL; slot = next) {
		next = *(void **)slot;
		s = osmem_slab_of(slot);
		osmem_slab_put(s, slot);
		t->room[s->class]++;
		if (s->state == OSMEM_SLAB_FULL || s->used == 0)
			thread_settle(t, s);
	}
}

void osmem_thread_flush(unsigned int class)
{
	struct osmem_thread *t = osmem_thread_self;
	ptrdiff_t keep = t->most[class] / 2;
	void **last = &t->list[class];
	void *rest;

	thread_widen(t, class);
	if (t->room[class] >= 0)
		return;
	while (keep-- > 0)
		last = *last;
	rest = *last;
	*last = NULL;
	thread_return(t, rest);
}

/* --- threads that begin and end --- */

static struct osmem_thread *thread_take_structure(void)
{
	enum { CHUNK = 64 * 1024 };
	struct osmem_thread *t = threads.unused;
	void *start = NULL;

	if (t != NULL) {
		threads.unused = t->next_free;
		return t;
	}
	if (threads.left == 0) {
		if (DIE(osmem_sys_map(CHUNK, &start), "mmap", CHUNK) != 0)
			return NULL;
		threads.chunk = start;
		threads.left = CHUNK / sizeof(*t);
	}
	threads.left--;
	return threads.chunk++;
}

/* NULL without memory, and for a thread whose destructor has run. */
static struct osmem_thread *thread_attach(void)
{
	struct osmem_thread *t = osmem_thread_self;

	if (likely(t != &thread_none))
		return t;
	osmem_lock(&osmem_core_lock);
	t = thread_take_structure();
	if (t != NULL) {
		t->base = (uintptr_t)osmem_region.base;
		t->heads = osmem_region.heads;
		t->limit = atomic_load_explicit(&osmem_region.limit,
						memory_order_relaxed);
		atomic_store_explicit(&t->posted, NULL, memory_order_relaxed);
	}
	osmem_unlock(&osmem_core_lock);
	if (t == NULL)
		return NULL;
	osmem_thread_self = t;
	/* May allocate, and finds the lists in place. */
	pthread_setspecific(threads.key, t);
	return t;
}

static void thread_leave(struct osmem_slab *s)
{
	if (s->used == 0 &&
	    atomic_load_explicit(&s->remote, memory_order_relaxed) == 0)
		thread_delete(s);
	else
		thread_pool_put(s);
}

static void thread_leave_class(struct osmem_thread *t, unsigned int class)
{
	struct osmem_slab *s;
	void *list = t->list[class];

	t->list[class] = NULL;
	thread_return(t, list);
	while ((s = t->partial[class]) != NULL) {
		thread_unlink(&t->partial[class], s);
		thread_leave(s);
	}
	t->room[class] = 0;
	t->most[class] = 0;
}

/*
 * The destructor of the key. Others may run after it and allocate: the thread
 * gets new lists then, and its destructor runs again, as POSIX promises to try
 * four times. After that its frees are remote and its slabs stay its own.
 */
static void thread_exit(void *arg)
{
	struct osmem_thread *t = arg;
	struct osmem_slab *s;
	unsigned int class;

	osmem_thread_self = &thread_none;
	t->limit = 0;
	thread_drain(t, true);
	for (class = 0; class < OSMEM_CLASSES; class++)
		thread_leave_class(t, class);
	while ((s = t->full) != NULL) {
		thread_unlink(&t->full, s);
		thread_pool_put(s);
	}
	osmem_lock(&osmem_core_lock);
	t->next_free = threads.unused;
	threads.unused = t;
	osmem_unlock(&osmem_core_lock);
}

bool osmem_thread_open(void)
{
	size_t step;

	if (threads.tried)
		return threads.open;
	threads.tried = true;
	for (step = 0; step < OSMEM_THREAD_STEPS; step++)
		atomic_store_explicit(
			&osmem_thread_classes[step],
			(uint8_t)osmem_class_of((step + 1) * 16),
			memory_order_relaxed);
	threads.open = osmem_region_open(&osmem_slab_nobody) &&
		       pthread_key_create(&threads.key, thread_exit) == 0;
	return threads.open;
}

/* --- fork --- */

void osmem_thread_before_fork(void)
{
	int i;

	for (i = 0; i < OSMEM_CLASSES; i++)
		osmem_lock_before_fork(&thread_pools[i].lock);
}

/*
 * What another thread was doing to its slabs when the fork came is unknown: in
 * the child nothing is allocated from them again, and frees into them go to
 * their remote lists.
 */
static void thread_freeze(void)
{
	size_t units = atomic_load_explicit(&osmem_region.limit,
					    memory_order_relaxed) >>
		       OSMEM_UNIT_SHIFT;
	struct osmem_thread *t;
	struct osmem_slab *s;
	size_t i;

	for (i = 0; i < units; i++) {
		s = osmem_region.heads[i];
		t = atomic_load_explicit(&s->owner, memory_order_relaxed);
		if (t != NULL && t != osmem_thread_self)
			atomic_store_explicit(&s->owner, NULL,
					      memory_order_relaxed);
	}
}

void osmem_thread_after_fork(bool child)
{
	int i;

	for (i = 0; i < OSMEM_CLASSES; i++)
		osmem_lock_after_fork(&thread_pools[i].lock);
	if (child && threads.open)
		thread_freeze();
}
