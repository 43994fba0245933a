/* SPDX-License-Identifier: MIT */
/*
 * region_idle.c - how much may lie there for nothing, and what is learned of
 * it. Guarded by the core's lock, but for what is atomic.
 */
#include "region_state.h"

#include "lock.h"
#include "sys.h"

/*
 * What may lie there for nothing, as free units or as idle pages of slabs: a
 * share of what is in use, and an allowance, in bytes. When half of what purges
 * gave back is taken at once, it or fresh memory, the allowance grows by twice
 * that, or doubles. It halves when for some time more than half of it was not
 * made use of, or when nothing was purged for long: memory that was used once
 * goes back at once, what bounces quickly is left alone. And it is forgotten
 * when the use has fallen to a share of what it was, and was as many times more
 * than the allowance: that was no loop over it. Times in milliseconds.
 */
enum {
	REGION_IDLE_SHARE = 32,
	REGION_LEFT_SHARE = 16,
	REGION_ALLOWANCE_LEAST = 256 << 10,
	REGION_ALLOWANCE_MOST = 64 << 20,
	REGION_AT_ONCE = 12,
	REGION_LONG = 100,
	REGION_LATELY = 200,
	REGION_REFUSED = 1000
};

/*
 * With a purger nothing stays for good, so what is taken again later counts,
 * too, and more may lie there. One is wanted when so many bytes were.
 */
enum {
	REGION_KEPT_AT_ONCE = 250,
	REGION_KEPT_MOST = 256 << 20,
	REGION_KEPT_SHARE = 4,
	REGION_WANTED = 2 << 20
};

/* A time, and how long the thread had been running. */
struct region_time {
	unsigned long wall;
	unsigned long run;
	uintptr_t self;
};

static struct {
	size_t most; /* units in slabs, since they were few the last time */
	size_t allowance;
	size_t low; /* the least of dirty units since we learned */
	size_t again; /* bytes taken again, sooner or later, in vain */
	bool kept;    /* there is a purger */
	struct region_time now; /* when we were about to learn */
	struct region_time learned;
	struct region_time purged;
} learn = { .allowance = REGION_ALLOWANCE_LEAST };

OSMEM_VAR_DEFINED struct osmem_region_idle osmem_region_idle = {
	.room = REGION_ALLOWANCE_LEAST
};
OSMEM_VAR_DEFINED atomic_bool osmem_region_wants;

/*
 * Between what idle memory was since somebody asked: free units, and pages of
 * slabs. least and most of the latter are relaxed, as those: who comes second
 * may undo what the first has seen.
 */
static struct {
	size_t least;
	size_t most;
	atomic_size_t pages_least;
	atomic_size_t pages_most;
} region_range;

/* Counters without the lock, relaxed, as those. */
static struct {
	atomic_size_t gone;	 /* of slabs, given back */
	atomic_size_t purged;	 /* since we last learned */
	atomic_size_t regretted; /* taken since, again or in its place */
	atomic_ulong refused;	 /* when madvise failed: locked pages; or 0 */
} region_count;

static size_t region_read(atomic_size_t *count)
{
	return atomic_load_explicit(count, memory_order_relaxed);
}

static void region_add(atomic_size_t *count, size_t bytes)
{
	atomic_fetch_add_explicit(count, bytes, memory_order_relaxed);
}

/* What is left for slabs of what may lie there for nothing. */
void osmem_region_make_room(void)
{
	size_t most = ((osmem_region_units.used << OSMEM_UNIT_SHIFT) -
		       region_read(&region_count.gone)) /
		      REGION_IDLE_SHARE;
	size_t dirty = osmem_region_units.dirty.units << OSMEM_UNIT_SHIFT;

	if (most < learn.allowance)
		most = learn.allowance;
	most = dirty < most ? most - dirty : 0;
	atomic_store_explicit(&osmem_region_idle.room, most,
			      memory_order_relaxed);
}

/* Starts to learn anew. */
static void region_forget(void)
{
	learn.learned = learn.now;
	learn.low = osmem_region_units.dirty.units;
	atomic_store_explicit(&region_count.regretted, 0, memory_order_relaxed);
	atomic_store_explicit(&region_count.purged, 0, memory_order_relaxed);
}

/* What has been learned of what is gone says nothing of what is left. */
static void region_turn(void)
{
	size_t share = learn.most / REGION_LEFT_SHARE;

	if (learn.kept || osmem_region_units.used >= share)
		return;
	learn.most = osmem_region_units.used;
	if (learn.allowance > REGION_ALLOWANCE_LEAST &&
	    learn.allowance >> OSMEM_UNIT_SHIFT < share) {
		learn.allowance = REGION_ALLOWANCE_LEAST;
		region_forget();
	}
}

void osmem_region_took(void)
{
	if (osmem_region_units.used > learn.most)
		learn.most = osmem_region_units.used;
	if (osmem_region_units.dirty.units < learn.low)
		learn.low = osmem_region_units.dirty.units;
	if (osmem_region_units.dirty.units < region_range.least)
		region_range.least = osmem_region_units.dirty.units;
	osmem_region_make_room();
}

void osmem_region_gave(void)
{
	if (osmem_region_units.dirty.units > region_range.most)
		region_range.most = osmem_region_units.dirty.units;
	region_turn();
	osmem_region_make_room();
}

/* --- counting and learning --- */

void osmem_region_add_idle(ptrdiff_t bytes)
{
	atomic_size_t *pages = &osmem_region_idle.pages;
	ptrdiff_t now = bytes + (ptrdiff_t)atomic_fetch_add_explicit(
					pages, (size_t)bytes,
					memory_order_relaxed);

	if (now < (ptrdiff_t)region_read(&region_range.pages_least))
		atomic_store_explicit(&region_range.pages_least, (size_t)now,
				      memory_order_relaxed);
	if (now > (ptrdiff_t)region_read(&region_range.pages_most))
		atomic_store_explicit(&region_range.pages_most, (size_t)now,
				      memory_order_relaxed);
}

/* Who counts may be ahead of who counts for others: less than nothing. */
static size_t region_bytes(size_t units, size_t pages)
{
	return (units << OSMEM_UNIT_SHIFT) + ((ptrdiff_t)pages > 0 ? pages : 0);
}

struct osmem_region_range osmem_region_ask(void)
{
	size_t pages = region_read(&osmem_region_idle.pages);
	struct osmem_region_range range;

	osmem_lock(&osmem_core_lock);
	range.least = region_bytes(region_range.least,
				   region_read(&region_range.pages_least));
	range.most = region_bytes(region_range.most,
				  region_read(&region_range.pages_most));
	region_range.least = region_range.most = osmem_region_units.dirty.units;
	atomic_store_explicit(&region_range.pages_least, pages,
			      memory_order_relaxed);
	atomic_store_explicit(&region_range.pages_most, pages,
			      memory_order_relaxed);
	osmem_unlock(&osmem_core_lock);
	return range;
}

void osmem_region_add_waiting(ptrdiff_t bytes)
{
	region_add(&osmem_region_idle.waiting, (size_t)bytes);
}

size_t osmem_region_waiting(void)
{
	return region_read(&osmem_region_idle.waiting);
}

size_t osmem_region_idle_pages(void)
{
	return region_read(&osmem_region_idle.pages);
}

void osmem_region_add_purged(size_t bytes)
{
	region_add(&region_count.purged, bytes);
}

void osmem_region_add_gone(ptrdiff_t bytes)
{
	region_add(&region_count.gone, (size_t)bytes);
	if (bytes > 0)
		osmem_region_add_purged((size_t)bytes);
}

void osmem_region_regret(size_t bytes)
{
	region_add(&region_count.regretted, bytes);
}

/* Never 0. */
static unsigned long region_clock(void)
{
	return osmem_sys_milliseconds() | 1;
}

bool osmem_region_is_refused(void)
{
	unsigned long when = atomic_load_explicit(&region_count.refused,
						  memory_order_relaxed);

	return unlikely(when != 0) &&
	       region_clock() - when < REGION_REFUSED;
}

void osmem_region_set_refused(bool refused)
{
	atomic_store_explicit(&region_count.refused,
			      refused ? region_clock() : 0,
			      memory_order_relaxed);
}

static struct region_time region_now(void)
{
	return (struct region_time){ osmem_sys_milliseconds(),
				     osmem_sys_milliseconds_run(),
				     osmem_lock_self() };
}

/*
 * Milliseconds since then. Lately only those for which the thread was running,
 * if it is the same: on a busy machine the others are not the program's.
 */
static unsigned long region_since(const struct region_time *then)
{
	const struct region_time *now = &learn.now;

	if (now->wall - then->wall < REGION_LATELY && now->self == then->self)
		return now->run - then->run;
	return now->wall - then->wall;
}

/* Whether what is allowed has not been made use of for some time. */
static bool region_is_idle(void)
{
	unsigned long since = region_since(&learn.learned);

	if (learn.kept)
		return false;
	return since >= REGION_LONG ||
	       (since >= REGION_AT_ONCE &&
		learn.low << OSMEM_UNIT_SHIFT > learn.allowance / 2);
}

/* What comes back is page faults, whether at once or not. Lock. */
static void region_want(size_t purged, size_t back)
{
	if (learn.now.wall - learn.purged.wall >= REGION_KEPT_AT_ONCE)
		learn.again = 0;
	else if (back * 2 > purged)
		learn.again += back;
	if (!learn.kept && learn.again >= REGION_WANTED)
		atomic_store_explicit(&osmem_region_wants, true,
				      memory_order_relaxed);
}

/* So much may lie there, whatever was learned. Lock. */
static void region_allow(size_t bytes)
{
	size_t most = learn.kept ? REGION_KEPT_MOST : REGION_ALLOWANCE_MOST;

	if (bytes > most)
		bytes = most;
	if (bytes < REGION_ALLOWANCE_LEAST)
		bytes = REGION_ALLOWANCE_LEAST;
	learn.allowance = bytes;
}

/* Goes on from there, and has seen nothing. Lock. */
static void region_restart(struct region_time now, size_t bytes)
{
	learn.now = now;
	region_allow(bytes);
	region_forget();
	osmem_region_make_room();
}

void osmem_region_keep(bool kept)
{
	size_t most = (learn.most << OSMEM_UNIT_SHIFT) / REGION_KEPT_SHARE;

	if (most < learn.allowance)
		most = learn.allowance;
	learn.kept = kept;
	learn.again = 0;
	region_restart(region_now(), kept ? most : 0);
}

void osmem_region_allow(size_t bytes)
{
	struct region_time now = region_now();

	osmem_lock(&osmem_core_lock);
	region_restart(now, bytes);
	osmem_unlock(&osmem_core_lock);
}

void osmem_region_learn(void)
{
	struct region_time now = region_now();
	size_t purged = region_read(&region_count.purged);
	size_t back = region_read(&region_count.regretted);
	bool at_once;

	if (back > purged)
		back = purged;
	osmem_lock(&osmem_core_lock);
	learn.now = now;
	region_want(purged, back);
	at_once = region_since(&learn.purged) <
		  (learn.kept ? REGION_KEPT_AT_ONCE : REGION_AT_ONCE);
	if (at_once && back * 2 > purged) {
		region_allow(learn.allowance + (back > learn.allowance / 2 ?
							 2 * back :
							 learn.allowance));
		region_forget();
	} else {
		if (learn.allowance > REGION_ALLOWANCE_LEAST &&
		    region_is_idle())
			learn.allowance /= 2;
		if (!at_once || region_since(&learn.learned) >= REGION_AT_ONCE)
			region_forget();
	}
	osmem_region_make_room();
	osmem_unlock(&osmem_core_lock);
}

/*
 * Units that may stay dirty: of an allowance that has been learned, most, but
 * for what slabs will want of it: their pages are the more costly ones to give.
 */
static size_t region_kept(void)
{
	size_t kept = learn.allowance - learn.allowance / 8;
	ptrdiff_t idle = (ptrdiff_t)osmem_region_idle_pages();
	size_t wanted = idle > 0 ? 2 * (size_t)idle : 0;

	if (learn.allowance <= REGION_ALLOWANCE_LEAST || wanted > kept)
		return 0;
	return (kept - wanted) >> OSMEM_UNIT_SHIFT;
}

size_t osmem_region_purges(bool all)
{
	learn.purged = learn.now;
	return all ? 0 : region_kept();
}
