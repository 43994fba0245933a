/* SPDX-License-Identifier: MIT */
/*
 * inspect.c - statistics, walking, checking, and what the library is.
 *
 * Takes the core's lock to look, prints without it. Must never allocate,
 * merge, or touch a payload.
 */
#include "inspect.h"

#include "die.h"
#include "fault.h"
#include "hard.h"
#include "heap.h"
#include "index.h"
#include "init.h"
#include "lock.h"
#include "mapped.h"
#include "options.h"
#include "print.h"
#include "stats.h"
#include "span.h"
#include "stretch.h"
#include "slab.h"
#include "sys.h"
#include "thread.h"

#include <errno.h>
#include <string.h>

/* A handler that comes meanwhile and allocates is seen by it. */
static bool inspect_enter(void)
{
	bool begun = osmem_thread_begin();

	osmem_init();
	osmem_lock(&osmem_core_lock);
	return begun;
}

static void inspect_leave(bool begun)
{
	osmem_unlock(&osmem_core_lock);
	osmem_thread_end_if(begun);
}

static unsigned long long inspect_ops(enum osmem_stats_op op)
{
	return atomic_load_explicit(&osmem_stats_counters.ops[op],
				    memory_order_relaxed);
}

/* Lock. */
static void inspect_slabs(struct os_stats *stats)
{
	struct osmem_region_totals space = osmem_region_totals();
	struct osmem_slab *s = NULL;

	stats->slab_bytes = space.used;
	stats->slab_region_bytes = space.reserved;
	stats->slab_used_blocks = 0;
	stats->slab_used_bytes = 0;
	while ((s = osmem_slab_above(s == NULL ? NULL : s->start)) != NULL) {
		size_t used = osmem_slab_used(s);

		stats->slab_used_blocks += used;
		stats->slab_used_bytes += used * s->size;
	}
}

/* The hardened slabs and mappings, where they belong. Lock. */
static void inspect_hard(struct os_stats *stats)
{
	struct osmem_hard_totals hard = osmem_hard_totals();
	struct os_block block = { .ptr = NULL };

	stats->slab_bytes += hard.slab_bytes;
	stats->slab_region_bytes += hard.reserved;
	while (osmem_hard_above(block.ptr, &block)) {
		if (block.state != OS_BLOCK_USED)
			continue;
		stats->slab_used_blocks++;
		stats->slab_used_bytes += block.size;
	}
	stats->mapped_blocks = hard.map_blocks;
	stats->mapped_bytes = hard.map_bytes;
}

void osmem_inspect_stats(struct os_stats *stats)
{
	struct osmem_heap_totals heap;
	struct osmem_mapped_totals maps;
	struct osmem_span_totals kept;
	bool begun;
	struct osmem_fault_totals faults;

	begun = inspect_enter();
	heap = osmem_heap_totals();
	maps = osmem_mapped_totals();
	kept = osmem_span_totals();
	stats->heap_bytes = osmem_stretch_bytes();
	stats->heap_stretches = osmem_stretch_count();
	stats->table_bytes = osmem_index_bytes();
	stats->growths = osmem_stretch_growths();
	inspect_slabs(stats);
	inspect_hard(stats);
	inspect_leave(begun);
	stats->heap_used_blocks = heap.used_blocks;
	stats->heap_used_bytes = heap.used_bytes;
	stats->heap_free_blocks = heap.blocks - heap.used_blocks;
	stats->heap_free_bytes = heap.free_bytes;
	stats->mapped_blocks += maps.blocks;
	stats->mapped_bytes += maps.bytes;
	stats->maps = kept.maps;
	stats->unmaps = kept.unmaps;
	stats->failures = osmem_die_failures();
	faults = osmem_fault_totals();
	stats->fault_calls = faults.calls;
	stats->faults = faults.failed;
	stats->mallocs = inspect_ops(OSMEM_STATS_MALLOC);
	stats->callocs = inspect_ops(OSMEM_STATS_CALLOC);
	stats->reallocs = inspect_ops(OSMEM_STATS_REALLOC);
	stats->aligned = inspect_ops(OSMEM_STATS_ALIGNED);
	stats->frees = inspect_ops(OSMEM_STATS_FREE);
	stats->requested_bytes = atomic_load_explicit(
		&osmem_stats_counters.bytes, memory_order_relaxed);
}

/* --- printing --- */

/* Every number of the statistics by its name, in the order of the struct. */
static const struct {
	const char *name;
	size_t offset;
	size_t size;
	bool counted; /* only with --enable-stats */
} inspect_fields[] = {
#define FIELD(name, counted) \
	{ #name, offsetof(struct os_stats, name), \
	  sizeof(((struct os_stats *)0)->name), counted }
	FIELD(heap_bytes, false),
	FIELD(heap_stretches, false),
	FIELD(heap_used_blocks, false),
	FIELD(heap_used_bytes, false),
	FIELD(heap_free_blocks, false),
	FIELD(heap_free_bytes, false),
	FIELD(mapped_blocks, false),
	FIELD(mapped_bytes, false),
	FIELD(slab_bytes, false),
	FIELD(slab_used_blocks, false),
	FIELD(slab_used_bytes, false),
	FIELD(slab_region_bytes, false),
	FIELD(table_bytes, false),
	FIELD(growths, false),
	FIELD(maps, false),
	FIELD(unmaps, false),
	FIELD(failures, false),
	FIELD(mallocs, true),
	FIELD(callocs, true),
	FIELD(reallocs, true),
	FIELD(frees, true),
	FIELD(aligned, true),
	FIELD(requested_bytes, true),
	FIELD(fault_calls, false),
	FIELD(faults, false),
#undef FIELD
};

static unsigned long long inspect_value(const struct os_stats *stats,
					size_t offset, size_t size)
{
	uint64_t wide;
	size_t narrow;

	if (size == sizeof(wide)) {
		memcpy(&wide, (const char *)stats + offset, sizeof(wide));
		return wide;
	}
	memcpy(&narrow, (const char *)stats + offset, sizeof(narrow));
	return narrow;
}

/* A row per class that was asked for. */
static int inspect_print_classes(int fd, bool json)
{
	const char *separator = "";
	int result = 0;
	unsigned int i;

	if (json)
		result = osmem_print(fd, ",\n  \"classes\": [");
	for (i = 0; i <= OSMEM_CLASSES && result >= 0; i++) {
		unsigned long long n = atomic_load_explicit(
			&osmem_stats_counters.classes[i], memory_order_relaxed);
		size_t size = i < OSMEM_CLASSES ? osmem_class_size(i) : 0;

		if (n == 0)
			continue;
		result = osmem_print(fd,
				     json ? "%s\n    {\"size\": %zu, "
					    "\"requests\": %llu}" :
					    "%sclass %zu: %llu\n",
				     separator, size, n);
		separator = json ? "," : "";
	}
	if (json && result >= 0)
		result = osmem_print(fd, "\n  ]");
	return result;
}

int osmem_inspect_print(int fd, int format)
{
	bool json = format == OS_STATS_JSON;
	struct os_stats stats;
	int result;
	size_t i;

	if (format != OS_STATS_TEXT && format != OS_STATS_JSON)
		return EINVAL;
	osmem_inspect_stats(&stats);
	result = osmem_print(fd, json ? "{\n  \"version\": \"%s\"" :
					OSMEM_NAME " %s statistics\n",
			     PACKAGE_VERSION);
	for (i = 0; i < sizeof(inspect_fields) / sizeof(inspect_fields[0]) &&
		    result >= 0; i++) {
		if (inspect_fields[i].counted && !OSMEM_CONF_STATS)
			continue;
		result = osmem_print(
			fd, json ? ",\n  \"%s\": %llu" : "%s: %llu\n",
			inspect_fields[i].name,
			inspect_value(&stats, inspect_fields[i].offset,
				      inspect_fields[i].size));
	}
	if (OSMEM_CONF_STATS && result >= 0)
		result = inspect_print_classes(fd, json);
	if (json && result >= 0)
		result = osmem_print(fd, "\n}\n");
	return result < 0 ? -result : 0;
}

/* --- walking and checking --- */

/* The kinds of blocks, each in address order; an end is NULL. */
struct inspect_cursor {
	struct block_meta *heap;
	struct block_meta *map;
	struct osmem_slab *slab;
	const char *slot; /* the next of the slab */
	struct os_block hard;
};

static void inspect_next_hard(struct inspect_cursor *c)
{
	if (!osmem_hard_above(c->hard.ptr, &c->hard))
		c->hard.ptr = NULL;
}

/* Moves on to the next slab that has slots, if this one has no more. */
static void inspect_next_slab(struct inspect_cursor *c)
{
	while (c->slab != NULL &&
	       c->slot >= c->slab->start + osmem_slab_carved(c->slab)) {
		c->slab = osmem_slab_above(c->slab->start);
		c->slot = c->slab != NULL ? c->slab->start : NULL;
	}
}

static bool inspect_is_first(const void *p, const void *other,
			     const void *third, const void *fourth)
{
	return p != NULL && (other == NULL || p < other) &&
	       (third == NULL || p < third) && (fourth == NULL || p < fourth);
}

/* Takes the block of the lowest address; false when there are no more. */
static bool inspect_next(struct inspect_cursor *c, struct os_block *block)
{
	struct block_meta *b = NULL;

	inspect_next_slab(c);
	if (inspect_is_first(c->heap, c->map, c->slot, c->hard.ptr)) {
		b = c->heap;
		c->heap = osmem_heap_next(b);
	} else if (inspect_is_first(c->map, c->heap, c->slot, c->hard.ptr)) {
		b = c->map;
		c->map = osmem_mapped_above(b);
	} else if (inspect_is_first(c->hard.ptr, c->slot, NULL, NULL)) {
		*block = c->hard;
		inspect_next_hard(c);
		return true;
	} else if (c->slot != NULL) {
		block->ptr = c->slot;
		block->size = c->slab->size;
		block->state = osmem_slab_is_free(c->slab, c->slot) ?
				       OS_BLOCK_FREE :
				       OS_BLOCK_USED;
		c->slot += c->slab->size;
		return true;
	}
	if (b == NULL)
		return false;
	block->ptr = osmem_block_payload(b);
	block->size = b->size;
	block->state = b->status;
	return true;
}

int osmem_inspect_walk(int (*fn)(const struct os_block *block, void *arg),
		       void *arg)
{
	struct inspect_cursor cursor;
	struct os_block block;
	int result = 0;
	bool begun;

	begun = inspect_enter();
	cursor.heap = osmem_heap_first();
	cursor.map = osmem_mapped_above(NULL);
	cursor.slab = osmem_slab_above(NULL);
	cursor.slot = cursor.slab != NULL ? cursor.slab->start : NULL;
	cursor.hard.ptr = NULL;
	inspect_next_hard(&cursor);
	while (result == 0 && inspect_next(&cursor, &block))
		result = fn(&block, arg);
	inspect_leave(begun);
	return result;
}

int osmem_inspect_check(void)
{
	bool begun = osmem_thread_begin();
	int faults = 0;

	/* Before the core's lock; a handler's thread may have one already. */
	if (begun)
		faults = osmem_thread_check();
	inspect_enter();
	faults += osmem_heap_check() + osmem_mapped_check() +
		  osmem_slab_check() + osmem_hard_check();
	inspect_leave(begun);
	return faults;
}

/* --- what the library is --- */

static int inspect_limit(int fd, const char *name, size_t value)
{
	if (value == SIZE_MAX)
		return osmem_print(fd, "%s: unlimited\n", name);
	return osmem_print(fd, "%s: %zu\n", name, value);
}

/* How much of it there is: that depends on limits. */
static int inspect_hardening(int fd)
{
	struct osmem_hard_totals hard;
	const char *what = "off";
	bool begun = inspect_enter();

	hard = osmem_hard_totals();
	inspect_leave(begun);
	if (osmem_hard_is_on())
		what = hard.refused   ? "no address space for it: block heap "
					"and its seals only" :
		       hard.unguarded ? "on, without further guard pages" :
					"on";
	return osmem_print(fd, "hardening: %s\n", what);
}

int osmem_inspect_info(int fd)
{
	int result;
	int err;

	osmem_init();
	err = osmem_options_print(fd);
	if (err != 0)
		return err;
	result = osmem_print(fd, "page size: %zu\n", osmem_init_page_size());
	if (result >= 0)
		result = inspect_hardening(fd);
	if (result >= 0)
		result = inspect_limit(fd, "address space or data limit",
				       osmem_sys_space_limit());
	return result < 0 ? -result : 0;
}

/* stats=exit. Late, so that the program's own handlers are counted. */
static __attribute__((destructor)) void inspect_at_exit(void)
{
	if (osmem_option(OSMEM_OPT_STATS) != 0)
		osmem_inspect_print(osmem_sys_kept_stderr(), OS_STATS_TEXT);
}
