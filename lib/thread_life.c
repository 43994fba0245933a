/* SPDX-License-Identifier: MIT */
/*
 * thread_life.c - threads that begin, end and fork; what is done for all.
 *
 * Locks are taken in the order thread, pool, core, and never two of a kind;
 * what does not wait for one (osmem_lock_try) may have the core's already.
 * Structures of threads are used again and never unmapped, so a stale owner
 * can be read, and locked.
 */
#include "thread_state.h"

#include "die.h"
#include "lock.h"
#include "sys.h"

#include <pthread.h>
#include <string.h>

static uintptr_t thread_no_slot[2];
static void *thread_no_bin = thread_no_slot;
#define THREAD_EMPTY { .top = { [0 ... OSMEM_CLASSES - 1] = &thread_no_bin } }
static struct osmem_thread thread_none = THREAD_EMPTY;
OSMEM_VAR_DEFINED struct osmem_thread osmem_thread_busy = THREAD_EMPTY;

enum {
	/* Sizes that the first page of a structure has bins for. */
	THREAD_KNOWN = 16 * 1024,
	/* Bytes freed by others that are looked at first. */
	THREAD_WAITING = 16 * 1024,
	/* Threads that have ended and rest, and bytes: in bins, and in all. */
	THREAD_RESTING = 8,
	THREAD_RESTING_HELD = 768 * 1024,
	THREAD_RESTING_CARVED = 4096 * 1024
};

OSMEM_VAR_DEFINED __thread struct osmem_thread *osmem_thread_self
	OSMEM_SELF_TLS = &thread_none;
OSMEM_VAR_DEFINED __thread struct osmem_thread *osmem_thread_mine
	OSMEM_SELF_TLS = &thread_none;

/* Under the core's lock, but for the atomic ones. */
static struct {
	struct osmem_thread *unused;
	/* With slabs and bins; how many, and bytes of bins and slabs. */
	struct osmem_thread *resting;
	unsigned int rest;
	size_t held;
	size_t carved;
	pthread_key_t key;
	bool open;
	bool tried;
	/* A purge is under way, and how often one was asked for since. */
	atomic_uint asked;
	/* Every structure: pushed with release, read with acquire. */
	_Atomic(struct osmem_thread *) all;
} threads;

/* --- what threads that have ended leave --- */

/* A slab of a thread that ends. */
static void thread_abandon(struct osmem_thread *t, struct osmem_slab *s)
{
	osmem_thread_disown(t, s);
	if (osmem_thread_is_spent(s))
		osmem_thread_delete(s);
	else
		osmem_thread_pool_put(s);
}

static void thread_abandon_bin(struct osmem_thread *t, unsigned int class)
{
	osmem_thread_cut(t, class, 0);
	osmem_thread_set_most(t, class, 0);
	t->credit[class] = 0;
}

/*
 * Nobody has it any more: nothing is posted to it, its slabs go to pools. Until
 * it is among the unused ones it is under its lock, so a handler that forks
 * knows it. Its lock.
 */
static void thread_dismantle(struct osmem_thread *t)
{
	unsigned int class;
	unsigned int list;

	t->limit = 0;
	for (class = 0; class < OSMEM_CLASSES; class++)
		osmem_thread_drain(t, class, true, NULL, 0);
	osmem_thread_collect(t);
	for (class = 0; class < OSMEM_CLASSES; class++)
		thread_abandon_bin(t, class);
	osmem_thread_purge_places(t);
	for (list = 0; list < OSMEM_THREAD_LISTS; list++)
		while (t->lists[list] != NULL)
			thread_abandon(t, t->lists[list]);
	osmem_thread_tell(t, 1);
	osmem_lock(&osmem_core_lock);
	t->next_free = threads.unused;
	threads.unused = t;
	osmem_unlock(&osmem_core_lock);
}

/* What is carved of its slabs, or more than most. */
static size_t thread_carved(const struct osmem_thread *t, size_t most)
{
	const struct osmem_slab *s;
	size_t bytes = 0;
	unsigned int list;

	for (list = 0; list < OSMEM_THREAD_LISTS; list++)
		for (s = t->lists[list]; s != NULL && bytes <= most;
		     s = s->next)
			bytes += osmem_slab_carved(s);
	return bytes;
}

/*
 * Keeps a few that have ended as if they were asleep, until too much is idle or
 * the process forks: the next thread goes on where they have stopped. Nobody
 * else can give back what is in their bins, nor use the free slots of their
 * slabs, so both are bounded. Its lock.
 */
static bool thread_rest(struct osmem_thread *t)
{
	size_t held = osmem_thread_held(t);
	bool rests;

	t->carved = thread_carved(t, THREAD_RESTING_CARVED);
	osmem_lock(&osmem_core_lock);
	rests = !atomic_load_explicit(&osmem_slab_shut, memory_order_relaxed) &&
		threads.rest < THREAD_RESTING &&
		threads.held + held <= THREAD_RESTING_HELD &&
		threads.carved + t->carved <= THREAD_RESTING_CARVED;
	if (rests) {
		osmem_thread_lend(-t->promised);
		t->next_free = threads.resting;
		threads.resting = t;
		threads.rest++;
		threads.held += held;
		threads.carved += t->carved;
	}
	osmem_unlock(&osmem_core_lock);
	return rests;
}

/* One that rests; if locked, one whose lock is to be had. Core's lock. */
static struct osmem_thread *thread_take_resting(bool locked)
{
	struct osmem_thread **at = &threads.resting;
	struct osmem_thread *t;

	while ((t = *at) != NULL && locked && !osmem_lock_try(&t->lock))
		at = &t->next_free;
	if (t == NULL)
		return NULL;
	*at = t->next_free;
	osmem_thread_lend(t->promised);
	threads.rest--;
	threads.held -= osmem_thread_held(t);
	threads.carved -= t->carved;
	return t;
}

/* Those whose lock somebody has are left to rest. No lock. */
static void thread_end_rest(void)
{
	struct osmem_thread *t;
	int i;

	for (i = 0; i < THREAD_RESTING; i++) {
		osmem_lock(&osmem_core_lock);
		t = thread_take_resting(true);
		osmem_unlock(&osmem_core_lock);
		if (t == NULL)
			return;
		thread_dismantle(t);
		osmem_thread_leave(t);
	}
}

/* --- giving back --- */

static size_t thread_discard_spent(struct osmem_thread *t)
{
	struct osmem_slab *s;
	size_t bytes = 0;

	while ((s = t->lists[OSMEM_THREAD_SPENT]) != NULL) {
		bytes += osmem_slab_idle(s);
		osmem_thread_discard(t, s);
	}
	return bytes;
}

static size_t thread_trim_one(struct osmem_thread *t, bool all)
{
	size_t bytes = 0;
	size_t torn;
	unsigned int class;

	osmem_thread_enter(t);
	if (all && t == osmem_thread_mine)
		for (class = 0; class < OSMEM_CLASSES; class++)
			osmem_thread_cut(t, class, 0);
	if (all)
		osmem_thread_collect(t);
	bytes += thread_discard_spent(t);
	for (class = 0; t->idle != 0 && class < OSMEM_CLASSES; class++) {
		torn = osmem_thread_tear(t->lists[class]);
		t->idle -= (ptrdiff_t)torn;
		bytes += torn;
	}
	osmem_thread_tell(t, 1);
	osmem_unlock(&t->lock);
	return bytes;
}

/* Who collects may do so before who frees has counted: less than nothing. */
static bool thread_waits(void)
{
	return (ptrdiff_t)osmem_region_waiting() > THREAD_WAITING;
}

/* What waits is not idle yet, and may be all there is. */
static void thread_look_all(struct osmem_thread *t)
{
	for (; t != NULL; t = t->next) {
		osmem_thread_enter(t);
		osmem_thread_look(t);
		osmem_thread_tell(t, 1);
		osmem_unlock(&t->lock);
	}
}

static bool thread_trim_all(bool all)
{
	struct osmem_thread *t = atomic_load_explicit(&threads.all,
						      memory_order_acquire);
	size_t bytes = 0;

	if (t == NULL || osmem_thread_is_forking())
		return false;
	if (all)
		osmem_region_set_refused(false);
	else if (thread_waits())
		thread_look_all(t);
	osmem_region_learn();
	if (!all && !osmem_region_should_purge())
		return false;
	if (!all && osmem_region_purge(false) && !osmem_region_should_purge())
		return true;
	thread_end_rest();
	for (; t != NULL; t = t->next)
		bytes += thread_trim_one(t, all);
	/* What waits still is the pools'. */
	bytes += osmem_thread_trim_pools(all || thread_waits());
	return osmem_region_purge(all) || bytes != 0;
}

/*
 * Many find at once that too much is idle, and each would wait for the locks of
 * all: the first does it, again when others have asked since it began. Who
 * finds that somebody has asked already writes nothing. Fences: either it sees
 * that another pass has begun, or that pass what it told the region.
 */
bool osmem_thread_trim(bool all)
{
	unsigned int asked;
	bool any = false;

	if (all)
		return thread_trim_all(true);
	atomic_thread_fence(memory_order_seq_cst);
	if (osmem_thread_is_forking() ||
	    atomic_load_explicit(&threads.asked, memory_order_relaxed) > 1 ||
	    atomic_fetch_add_explicit(&threads.asked, 1,
				      memory_order_relaxed) != 0)
		return false;
	do {
		atomic_store_explicit(&threads.asked, 1, memory_order_relaxed);
		atomic_thread_fence(memory_order_seq_cst);
		any |= thread_trim_all(false);
		asked = 1;
	} while (!atomic_compare_exchange_strong_explicit(
		&threads.asked, &asked, 0, memory_order_relaxed,
		memory_order_relaxed));
	return any;
}

int osmem_thread_check(void)
{
	struct osmem_thread *t = atomic_load_explicit(&threads.all,
						      memory_order_acquire);
	int faults = 0;

	if (t == NULL || osmem_thread_is_forking())
		return 0;
	for (; t != NULL; t = t->next)
		faults += osmem_thread_check_one(t);
	return faults + osmem_thread_check_pools();
}

/* --- the door --- */

static void thread_name_slabs(struct osmem_thread *t)
{
	struct osmem_slab *s;
	unsigned int list;

	for (list = 0; list < OSMEM_THREAD_LISTS; list++)
		for (s = t->lists[list]; s != NULL; s = s->next)
			osmem_slab_set_owner(s, t);
}

void osmem_thread_shut(bool shut)
{
	struct osmem_thread *t = atomic_load_explicit(&threads.all,
						      memory_order_acquire);
	bool begun = osmem_thread_begin();
	unsigned int class;

	atomic_fetch_add_explicit(&osmem_slab_shut, shut ? 1 : -1,
				  memory_order_relaxed);
	thread_end_rest();
	for (; t != NULL; t = t->next) {
		osmem_thread_enter(t);
		for (class = 0; t == osmem_thread_mine && class < OSMEM_CLASSES;
		     class++)
			osmem_thread_cut(t, class, 0);
		thread_name_slabs(t);
		osmem_thread_leave(t);
	}
	if (begun)
		osmem_thread_end();
}

/* --- threads that begin and end --- */

void osmem_thread_clear_places(struct osmem_thread *t)
{
	void **bin = osmem_thread_begin_place(t, (void **)(t + 1));
	unsigned int class;

	for (class = 0; class < OSMEM_CLASSES; class++)
		t->bin[class] = t->top[class] = t->end[class] = bin;
}

void osmem_thread_know(struct osmem_thread *t, unsigned int last)
{
	size_t first = osmem_thread_first_top(t);
	size_t step = t->sizes / 16;
	unsigned int class = step == 0 ? 0 : osmem_class_of(t->sizes) + 1;

	for (; class <= last && class < NUM_CLASSES; class++) {
		size_t end = osmem_class_size(class) / 16;

		while (step < end)
			t->tops[step++] = (uint16_t)(
				first + class * sizeof(t->top[0]));
	}
	t->sizes = step * 16;
}

void osmem_thread_make_bins(struct osmem_thread *t)
{
	osmem_thread_clear_places(t);
	osmem_thread_know(t, osmem_class_of(THREAD_KNOWN));
}

/* Nobody else can reach it. */
static void thread_set_posted(struct osmem_thread *t, struct osmem_slab *s)
{
	unsigned int class;

	for (class = 0; class < OSMEM_CLASSES; class++)
		atomic_store_explicit(&t->posted[class], s,
				      memory_order_relaxed);
}

/* Core's lock. */
static struct osmem_thread *thread_take_structure(void)
{
	struct osmem_thread *t = threads.unused;
	void *start = NULL;

	if (t != NULL) {
		threads.unused = t->next_free;
		thread_set_posted(t, NULL);
		return t;
	}
	if (DIE(osmem_sys_map(OSMEM_THREAD_AREA, &start), "mmap",
		OSMEM_THREAD_AREA) != 0)
		return NULL;
	t = start;
	osmem_thread_make_bins(t);
	t->next = atomic_load_explicit(&threads.all, memory_order_relaxed);
	atomic_store_explicit(&threads.all, t, memory_order_release);
	return t;
}

/* NULL without memory, and for a thread whose destructor has run. */
struct osmem_thread *osmem_thread_attach(void)
{
	struct osmem_thread *t = osmem_thread_mine;
	bool forking;

	if (likely(t != &thread_none))
		return t;
	forking = osmem_thread_is_forking();
	osmem_lock(&osmem_core_lock);
	/* Whoever has its lock may be waiting for ours. */
	t = forking ? NULL : thread_take_resting(false);
	if (t == NULL)
		t = thread_take_structure();
	if (t != NULL) {
		t->base = (uintptr_t)osmem_region.base;
		t->heads = osmem_region.heads;
		t->key = osmem_slab_key;
		t->limit = atomic_load_explicit(&osmem_region.limit,
						memory_order_relaxed);
	}
	osmem_unlock(&osmem_core_lock);
	if (t == NULL)
		return NULL;
	if (forking)
		osmem_lock_before_fork(&t->lock);
	osmem_thread_mine = t;
	/* May allocate, and finds the lists in place, and open. */
	osmem_thread_end();
	pthread_setspecific(threads.key, t);
	osmem_thread_begin();
	return t;
}

/*
 * The destructor of the key. Others may run after it and allocate: the thread
 * gets new lists then, and its destructor runs again, as POSIX promises to try
 * four times. After that its frees are remote and its slabs stay its own.
 */
static void thread_exit(void *arg)
{
	struct osmem_thread *t = arg;

	osmem_thread_begin();
	osmem_thread_enter(t);
	osmem_thread_mine = &thread_none;
	if (!thread_rest(t))
		thread_dismantle(t);
	osmem_thread_leave(t);
	osmem_thread_end();
}

bool osmem_thread_open(void)
{
	if (threads.tried)
		return threads.open;
	threads.tried = true;
	osmem_thread_make_rules();
	threads.open = osmem_region_open(osmem_slab_head(&osmem_slab_nobody)) &&
		       pthread_key_create(&threads.key, thread_exit) == 0;
	return threads.open;
}

/* --- fork --- */

/*
 * One may fork in a signal handler, or before it has allocated. What rests
 * would be lost to the child, as what other threads have is.
 */
void osmem_thread_before_fork(bool begun)
{
	if (begun && !osmem_thread_is_forking())
		thread_end_rest();
	if (osmem_thread_mine != &thread_none)
		osmem_lock_before_fork(&osmem_thread_mine->lock);
	osmem_thread_pools_before_fork();
}

/*
 * Whether another thread's structure is left as it is in the child: ours never,
 * and none whose lock we hold, as what this fork has interrupted goes on.
 */
static bool thread_is_kept(struct osmem_thread *t)
{
	return t == osmem_thread_mine || osmem_lock_is_mine(&t->lock);
}

/*
 * What another thread was doing to its slabs when the fork came is unknown: in
 * the child nothing is allocated from them again, and frees into them go to
 * their remote lists. Nor whether it had counted what it freed: that is done
 * again.
 */
static void thread_freeze_slabs(void)
{
	size_t units = atomic_load_explicit(&osmem_region.limit,
					    memory_order_relaxed) >>
		       OSMEM_UNIT_SHIFT;
	size_t waiting = 0;
	struct osmem_slab *s;
	size_t i;

	for (i = 0; i < units; i++) {
		s = osmem_slab_headed(osmem_region.heads[i]);
		if (s != osmem_slab_record(i))
			continue;
		if (osmem_slab_owner(s) != NULL &&
		    !thread_is_kept(osmem_slab_owner(s)))
			osmem_slab_freeze(s);
		waiting += osmem_slab_waits(s);
	}
	osmem_region_add_waiting(
		(ptrdiff_t)(waiting - osmem_region_waiting()));
}

/*
 * Nor is anything done to its structure, but that it may be used again. The
 * table of bins stays as it is, or each would be copied for the child.
 */
static void thread_freeze_one(struct osmem_thread *t)
{
	struct osmem_thread *next = t->next;
	unsigned int class;

	for (class = 0; class < OSMEM_CLASSES; class++)
		osmem_thread_set_most(t, class, 0);
	osmem_region_add_idle(-t->told);
	memset(t, 0, offsetof(struct osmem_thread, sizes));
	memset(t->no_slot, 0,
	       sizeof(*t) - offsetof(struct osmem_thread, no_slot));
	osmem_thread_clear_places(t);
	t->next = next;
	thread_set_posted(t, &osmem_thread_closed);
	t->next_free = threads.unused;
	threads.unused = t;
}

static void thread_freeze(void)
{
	struct osmem_thread *t = atomic_load_explicit(&threads.all,
						      memory_order_relaxed);

	while (thread_take_resting(false) != NULL)
		continue;
	thread_freeze_slabs();
	threads.unused = NULL;
	atomic_store_explicit(&threads.asked, 0, memory_order_relaxed);
	for (; t != NULL; t = t->next)
		if (!thread_is_kept(t))
			thread_freeze_one(t);
}

void osmem_thread_after_fork(bool child)
{
	osmem_thread_pools_after_fork();
	if (child && threads.open)
		thread_freeze();
	osmem_lock_after_fork(&osmem_thread_mine->lock);
}
