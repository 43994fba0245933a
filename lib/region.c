/* SPDX-License-Identifier: MIT */
/*
 * region.c - reserving, committing, and runs of free units.
 *
 * Free runs below the frontier stand in sets by place and by length, dirty and
 * clean ones apart, so purging knows what to purge. Guarded by the core's lock;
 * madvise is called without it, on runs that have been taken out of the sets.
 */
#include "region.h"

#include "die.h"
#include "lock.h"
#include "runs.h"
#include "sys.h"

OSMEM_VAR_DEFINED struct osmem_region osmem_region;

#define REGION_LARGEST ((size_t)1 << (sizeof(void *) == 8 ? 40 : 27))
#define REGION_SMALLEST ((size_t)8 << 20)
#define REGION_STEP ((size_t)2 << 20)

/*
 * The units and their tables: bytes for each unit, and where in the first page
 * they begin. Processors tell a load from the stores before it by the low 12
 * bits of its address at first: at the start of a page, where the first slots
 * of slabs are, each free would wait for the stores into its slot.
 */
enum { REGION_UNITS, REGION_RECORDS, REGION_HEADS, REGION_MAPS, REGION_ALL };

static const struct region_extent {
	size_t each;
	size_t at;
} region_extents[REGION_ALL] = {
	[REGION_UNITS] = { OSMEM_UNIT, 0 },
	[REGION_RECORDS] = { OSMEM_RECORD, 1024 + OSMEM_RECORD },
	[REGION_HEADS] = { sizeof(uintptr_t), 2048 + 64 },
	[REGION_MAPS] = { OSMEM_MAP, 0 },
};

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
	char *start[REGION_ALL];
	struct osmem_runs dirty;
	struct osmem_runs clean;
	size_t reserved; /* bytes */
	size_t frontier; /* units taken so far from the bottom */
	size_t used;	 /* units in slabs */
	size_t most;	 /* of them, since they were few the last time */
	size_t allowance;
	size_t low; /* the least of dirty units since we learned */
	size_t again; /* bytes taken again, sooner or later, in vain */
	bool kept;    /* there is a purger */
	struct region_time now; /* when we were about to learn */
	struct region_time learned;
	struct region_time purged;
	bool tried;
} region = { .allowance = REGION_ALLOWANCE_LEAST };

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

/* --- reserving and committing --- */

static size_t region_steps(size_t size)
{
	return size & ~(REGION_STEP - 1);
}

static size_t region_limit(void)
{
	size_t most = osmem_sys_space_limit() / 4;

	return most < REGION_LARGEST ? region_steps(most) : REGION_LARGEST;
}

/* The bytes of an extent for so many units, rounded up. */
static size_t region_size(int i, size_t units, size_t up)
{
	const struct region_extent *e = &region_extents[i];

	return units == 0 ? 0 : osmem_up(e->at + units * e->each, up);
}

/* The units and their tables in one reservation. */
static bool region_reserve(size_t size)
{
	size_t units = size >> OSMEM_UNIT_SHIFT;
	size_t total = OSMEM_UNIT;
	void *start = NULL;
	char *p;
	int i;

	for (i = 0; i < REGION_ALL; i++)
		total += region_size(i, units, OSMEM_UNIT);
	if (osmem_sys_reserve(total, &start) != 0)
		return false;
	p = (char *)osmem_up((uintptr_t)start, OSMEM_UNIT);
	for (i = 0; i < REGION_ALL; i++) {
		region.start[i] = p;
		p += region_size(i, units, OSMEM_UNIT);
	}
	osmem_region.base = region.start[REGION_UNITS];
	osmem_region.records = region.start[REGION_RECORDS] +
			       region_extents[REGION_RECORDS].at;
	osmem_region.heads = (void *)(region.start[REGION_HEADS] +
				      region_extents[REGION_HEADS].at);
	osmem_region.maps = region.start[REGION_MAPS];
	region.reserved = size;
	return true;
}

bool osmem_region_open(uintptr_t nobody)
{
	size_t size;

	osmem_region.nobody = nobody;
	if (region.tried)
		return region.reserved != 0;
	region.tried = true;
	for (size = region_limit(); size >= REGION_SMALLEST;
	     size = region_steps(size / 2))
		if (region_reserve(size))
			return true;
	return false;
}

/* Commits what belongs to the units [from, to), but what from has already. */
static bool region_commit_extent(int i, size_t from, size_t to)
{
	size_t page = osmem_sys_page_size();
	size_t before = region_size(i, from, page);
	size_t more = region_size(i, to, page) - before;

	return more == 0 ||
	       DIE(osmem_sys_commit(region.start[i] + before, more), "mprotect",
		   more) == 0;
}

static size_t region_committed(void)
{
	return atomic_load_explicit(&osmem_region.limit,
				    memory_order_relaxed) >>
	       OSMEM_UNIT_SHIFT;
}

/* Keeps the address space of so many units. Whether that left any over. */
static bool region_shrink(size_t units)
{
	size_t all = region.reserved >> OSMEM_UNIT_SHIFT;
	size_t page = osmem_sys_page_size();
	bool any = false;
	int i;

	for (i = 0; i < REGION_ALL; i++) {
		size_t kept = region_size(i, units, page);
		size_t spare = region_size(i, all, page) - kept;

		if (spare != 0)
			any |= KEEP(osmem_sys_unmap(region.start[i] + kept,
						    spare),
				    "munmap", spare) == 0;
	}
	region.reserved = units << OSMEM_UNIT_SHIFT;
	return any;
}

bool osmem_region_release_spare(void)
{
	return region_shrink(region_committed());
}

/*
 * The kernel does not ask RLIMIT_AS when reserved space is committed: a limit
 * that was set since is kept by us.
 */
bool osmem_region_keep_limit(void)
{
	size_t most = region_limit() >> OSMEM_UNIT_SHIFT;
	size_t committed = region_committed();

	return most < region.reserved >> OSMEM_UNIT_SHIFT &&
	       region_shrink(most > committed ? most : committed);
}

/* Commits steps up to so many units, tables first: all of them, or none. */
static bool region_commit(size_t units)
{
	size_t from = region_committed();
	size_t to = osmem_up(units, REGION_STEP >> OSMEM_UNIT_SHIFT);
	int i;

	/* Asked each time when all is used up, the limit would cost a call. */
	if (to << OSMEM_UNIT_SHIFT <= region.reserved)
		osmem_region_keep_limit();
	if (to << OSMEM_UNIT_SHIFT > region.reserved)
		return false;
	for (i = REGION_ALL - 1; i >= 0; i--)
		if (!region_commit_extent(i, from, to))
			return false;
	for (; from < to; from++)
		osmem_region.heads[from] = osmem_region.nobody;
	atomic_store_explicit(&osmem_region.limit, to << OSMEM_UNIT_SHIFT,
			      memory_order_release);
	return true;
}

/* --- units --- */

static size_t region_read(atomic_size_t *count)
{
	return atomic_load_explicit(count, memory_order_relaxed);
}

static void region_add(atomic_size_t *count, size_t bytes)
{
	atomic_fetch_add_explicit(count, bytes, memory_order_relaxed);
}

/* What is left for slabs of what may lie there for nothing. */
static void region_make_room(void)
{
	size_t most = ((region.used << OSMEM_UNIT_SHIFT) -
		       region_read(&region_count.gone)) /
		      REGION_IDLE_SHARE;
	size_t dirty = region.dirty.units << OSMEM_UNIT_SHIFT;

	if (most < region.allowance)
		most = region.allowance;
	most = dirty < most ? most - dirty : 0;
	atomic_store_explicit(&osmem_region_idle.room, most,
			      memory_order_relaxed);
}

size_t osmem_region_longest_dirty(void)
{
	return osmem_runs_longest(&region.dirty);
}

/* Dirty runs first: their pages are there. */
bool osmem_region_take(size_t units, size_t *first, bool *dirty)
{
	*dirty = osmem_runs_get(&region.dirty, units, first);
	if (!*dirty && !osmem_runs_get(&region.clean, units, first)) {
		if (region.frontier + units > region_committed() &&
		    !region_commit(region.frontier + units))
			return false;
		*first = region.frontier;
		region.frontier += units;
	}
	if (!*dirty)
		osmem_region_regret(units << OSMEM_UNIT_SHIFT);
	region.used += units;
	if (region.used > region.most)
		region.most = region.used;
	if (region.dirty.units < region.low)
		region.low = region.dirty.units;
	if (region.dirty.units < region_range.least)
		region_range.least = region.dirty.units;
	region_make_room();
	return true;
}

/* Starts to learn anew. */
static void region_forget(void)
{
	region.learned = region.now;
	region.low = region.dirty.units;
	atomic_store_explicit(&region_count.regretted, 0, memory_order_relaxed);
	atomic_store_explicit(&region_count.purged, 0, memory_order_relaxed);
}

/* What has been learned of what is gone says nothing of what is left. */
static void region_turn(void)
{
	size_t share = region.most / REGION_LEFT_SHARE;

	if (region.kept || region.used >= share)
		return;
	region.most = region.used;
	if (region.allowance > REGION_ALLOWANCE_LEAST &&
	    region.allowance >> OSMEM_UNIT_SHIFT < share) {
		region.allowance = REGION_ALLOWANCE_LEAST;
		region_forget();
	}
}

void osmem_region_give(size_t first, size_t units)
{
	region.used -= units;
	osmem_runs_put(&region.dirty, first, units);
	if (region.dirty.units > region_range.most)
		region_range.most = region.dirty.units;
	region_turn();
	region_make_room();
}

/* --- purging --- */

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
	region_range.least = region_range.most = region.dirty.units;
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

void osmem_region_add_gone(ptrdiff_t bytes)
{
	region_add(&region_count.gone, (size_t)bytes);
	if (bytes > 0)
		region_add(&region_count.purged, (size_t)bytes);
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
	const struct region_time *now = &region.now;

	if (now->wall - then->wall < REGION_LATELY && now->self == then->self)
		return now->run - then->run;
	return now->wall - then->wall;
}

/* Whether what is allowed has not been made use of for some time. */
static bool region_is_idle(void)
{
	unsigned long since = region_since(&region.learned);

	if (region.kept)
		return false;
	return since >= REGION_LONG ||
	       (since >= REGION_AT_ONCE &&
		region.low << OSMEM_UNIT_SHIFT > region.allowance / 2);
}

/* What comes back is page faults, whether at once or not. Lock. */
static void region_want(size_t purged, size_t back)
{
	if (region.now.wall - region.purged.wall >= REGION_KEPT_AT_ONCE)
		region.again = 0;
	else if (back * 2 > purged)
		region.again += back;
	if (!region.kept && region.again >= REGION_WANTED)
		atomic_store_explicit(&osmem_region_wants, true,
				      memory_order_relaxed);
}

/* So much may lie there, whatever was learned. Lock. */
static void region_allow(size_t bytes)
{
	size_t most = region.kept ? REGION_KEPT_MOST : REGION_ALLOWANCE_MOST;

	if (bytes > most)
		bytes = most;
	if (bytes < REGION_ALLOWANCE_LEAST)
		bytes = REGION_ALLOWANCE_LEAST;
	region.allowance = bytes;
}

void osmem_region_keep(bool kept)
{
	struct region_time now = region_now();
	size_t most;

	osmem_lock(&osmem_core_lock);
	region.now = now;
	region.kept = kept;
	region.again = 0;
	region_forget();
	most = (region.most << OSMEM_UNIT_SHIFT) / REGION_KEPT_SHARE;
	if (!kept)
		region_allow(0);
	else if (most > region.allowance)
		region_allow(most);
	region_make_room();
	osmem_unlock(&osmem_core_lock);
}

void osmem_region_allow(size_t bytes)
{
	struct region_time now = region_now();

	osmem_lock(&osmem_core_lock);
	region.now = now;
	region_allow(bytes);
	region_forget();
	region_make_room();
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
	region.now = now;
	region_want(purged, back);
	at_once = region_since(&region.purged) <
		  (region.kept ? REGION_KEPT_AT_ONCE : REGION_AT_ONCE);
	if (at_once && back * 2 > purged) {
		region_allow(region.allowance + (back > region.allowance / 2 ?
							 2 * back :
							 region.allowance));
		region_forget();
	} else {
		if (region.allowance > REGION_ALLOWANCE_LEAST &&
		    region_is_idle())
			region.allowance /= 2;
		if (!at_once || region_since(&region.learned) >= REGION_AT_ONCE)
			region_forget();
	}
	region_make_room();
	osmem_unlock(&osmem_core_lock);
}

bool osmem_region_purge_bytes(void *start, size_t size)
{
	if (osmem_region_is_refused())
		return false;
	if (size == 0 || KEEP(osmem_sys_purge(start, size), "madvise",
			      size) == 0)
		return true;
	osmem_region_set_refused(true);
	return false;
}

/*
 * The pages of a table that speak of free units only, from first to end, and of
 * one from from to to, which have just been purged. Nobody reads them.
 */
static void region_purge_table(int i, size_t first, size_t end, size_t from,
			       size_t to)
{
	const struct region_extent *e = &region_extents[i];
	uintptr_t page = osmem_sys_page_size();
	uintptr_t base = (uintptr_t)region.start[i] + e->at;
	uintptr_t low = osmem_up(base + first * e->each, page);
	uintptr_t high = (base + end * e->each) & ~(page - 1);
	uintptr_t near = (base + from * e->each) & ~(page - 1);
	uintptr_t far = osmem_up(base + to * e->each, page);

	if (low < near)
		low = near;
	if (high > far)
		high = far;
	if (low < high)
		osmem_region_purge_bytes((void *)low, high - low);
}

/* Takes the longest dirty run, or its end, and puts it to the clean ones. */
static bool region_purge_one(size_t most)
{
	size_t from, first;
	size_t count, units;
	bool purged;

	if (osmem_region_is_refused() ||
	    !osmem_runs_get_longest(&region.dirty, most, &from, &count))
		return false;
	first = from;
	units = count;
	osmem_runs_join(&region.clean, &first, &units);
	osmem_unlock(&osmem_core_lock);
	purged = osmem_region_purge_bytes(osmem_region.base +
						  (from << OSMEM_UNIT_SHIFT),
					  count << OSMEM_UNIT_SHIFT);
	if (purged) {
		region_add(&region_count.purged, count << OSMEM_UNIT_SHIFT);
		region_purge_table(REGION_RECORDS, first, first + units, from,
				   from + count);
		region_purge_table(REGION_MAPS, first, first + units, from,
				   from + count);
	}
	osmem_lock(&osmem_core_lock);
	osmem_runs_put(purged ? &region.clean : &region.dirty, first, units);
	return purged;
}

/*
 * Units that may stay dirty: of an allowance that has been learned, most, but
 * for what slabs will want of it: their pages are the more costly ones to give.
 */
static size_t region_kept(void)
{
	size_t kept = region.allowance - region.allowance / 8;
	ptrdiff_t idle = (ptrdiff_t)region_read(&osmem_region_idle.pages);
	size_t wanted = idle > 0 ? 2 * (size_t)idle : 0;

	if (region.allowance <= REGION_ALLOWANCE_LEAST || wanted > kept)
		return 0;
	return (kept - wanted) >> OSMEM_UNIT_SHIFT;
}

bool osmem_region_purge(bool all)
{
	size_t kept = 0;
	bool any = false;

	osmem_lock(&osmem_core_lock);
	region.purged = region.now;
	if (!all)
		kept = region_kept();
	while (region.dirty.units > kept &&
	       region_purge_one(region.dirty.units - kept))
		any = true;
	region_make_room();
	osmem_unlock(&osmem_core_lock);
	return any;
}

struct osmem_region_totals osmem_region_totals(void)
{
	struct osmem_region_totals totals = {
		.reserved = region.reserved,
		.committed = atomic_load_explicit(&osmem_region.limit,
						  memory_order_relaxed),
		.used = region.used << OSMEM_UNIT_SHIFT,
		.dirty = region.dirty.units << OSMEM_UNIT_SHIFT,
		.idle = region_read(&osmem_region_idle.pages),
	};

	return totals;
}
