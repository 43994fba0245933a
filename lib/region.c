/* SPDX-License-Identifier: MIT */
/*
 * region.c - reserving, committing, and runs of free units.
 *
 * Free runs below the frontier stand in sets by place and by length, dirty and
 * clean ones apart, so purging knows what to purge. Guarded by the core's lock;
 * madvise is called without it, on runs that have been taken out of the sets.
 */
#include "region_state.h"

#include "die.h"
#include "lock.h"
#include "sys.h"

OSMEM_VAR_DEFINED struct osmem_region osmem_region;
OSMEM_VAR_DEFINED struct osmem_region_units osmem_region_units;

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

static struct {
	char *start[REGION_ALL];
	size_t reserved; /* bytes */
	size_t frontier; /* units taken so far from the bottom */
	bool tried;
} region;

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

size_t osmem_region_longest_dirty(void)
{
	return osmem_runs_longest(&osmem_region_units.dirty);
}

/* Dirty runs first: their pages are there. */
bool osmem_region_take(size_t units, size_t *first, bool *dirty)
{
	*dirty = osmem_runs_get(&osmem_region_units.dirty, units, first);
	if (!*dirty &&
	    !osmem_runs_get(&osmem_region_units.clean, units, first)) {
		if (region.frontier + units > region_committed() &&
		    !region_commit(region.frontier + units))
			return false;
		*first = region.frontier;
		region.frontier += units;
	}
	if (!*dirty)
		osmem_region_regret(units << OSMEM_UNIT_SHIFT);
	osmem_region_units.used += units;
	osmem_region_took();
	return true;
}

void osmem_region_give(size_t first, size_t units)
{
	osmem_region_units.used -= units;
	osmem_runs_put(&osmem_region_units.dirty, first, units);
	osmem_region_gave();
}

/* --- purging --- */

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
	    !osmem_runs_get_longest(&osmem_region_units.dirty, most, &from,
				    &count))
		return false;
	first = from;
	units = count;
	osmem_runs_join(&osmem_region_units.clean, &first, &units);
	osmem_unlock(&osmem_core_lock);
	purged = osmem_region_purge_bytes(osmem_region.base +
						  (from << OSMEM_UNIT_SHIFT),
					  count << OSMEM_UNIT_SHIFT);
	if (purged) {
		osmem_region_add_purged(count << OSMEM_UNIT_SHIFT);
		region_purge_table(REGION_RECORDS, first, first + units, from,
				   from + count);
		region_purge_table(REGION_MAPS, first, first + units, from,
				   from + count);
	}
	osmem_lock(&osmem_core_lock);
	osmem_runs_put(purged ? &osmem_region_units.clean :
				&osmem_region_units.dirty,
		       first, units);
	return purged;
}

bool osmem_region_purge(bool all)
{
	size_t kept;
	bool any = false;

	osmem_lock(&osmem_core_lock);
	kept = osmem_region_purges(all);
	while (osmem_region_units.dirty.units > kept &&
	       region_purge_one(osmem_region_units.dirty.units - kept))
		any = true;
	osmem_region_make_room();
	osmem_unlock(&osmem_core_lock);
	return any;
}

struct osmem_region_totals osmem_region_totals(void)
{
	struct osmem_region_totals totals = {
		.reserved = region.reserved,
		.committed = atomic_load_explicit(&osmem_region.limit,
						  memory_order_relaxed),
		.used = osmem_region_units.used << OSMEM_UNIT_SHIFT,
		.dirty = osmem_region_units.dirty.units << OSMEM_UNIT_SHIFT,
		.idle = osmem_region_idle_pages(),
	};

	return totals;
}
