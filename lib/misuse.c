/* SPDX-License-Identifier: MIT */
/*
 * misuse.c - looks around a pointer that is to be reported.
 *
 * Reads only what the caller has located, and links in headers that hold.
 */
#include "misuse.h"

#include "block.h"
#include "lock.h"
#include "options.h"
#include "slab.h"
#include "thread.h"

#include <osmem.h>

static struct osmem_report_block misuse_block(const struct block_meta *b)
{
	struct osmem_report_block block = {
		.payload = (const char *)b + OSMEM_META,
		.size = b->size,
		.status = b->status,
	};

	return block;
}

/* Neighbours touch: what is in another stretch is none. */
static void misuse_look_in_heap(struct block_meta *b,
				struct osmem_report_more *more)
{
	struct block_meta *prev = b->prev;

	if (!osmem_block_intact(b) || b->status == OSMEM_MAPPED)
		return;
	if (prev != NULL && osmem_block_intact(prev) &&
	    osmem_block_end(prev) == (char *)b)
		more->before = misuse_block(prev);
	if (b->next != NULL && (char *)b->next == osmem_block_end(b))
		more->behind = misuse_block(b->next);
}

static struct osmem_report_block misuse_slot(const struct osmem_slab *s,
					     const char *slot)
{
	struct osmem_report_block block = {
		.payload = slot,
		.size = s->size,
		.status = osmem_slab_is_free(s, slot) ? OSMEM_FREE : OSMEM_USED,
	};

	return block;
}

static const char *misuse_owner(const struct osmem_slab *s)
{
	const struct osmem_thread *owner = osmem_slab_owner(s);

	if (owner == NULL)
		return "a thread that has ended";
	return owner == osmem_thread_mine ? "this thread" : "another thread";
}

static void misuse_look_in_slab(const char *slot,
				struct osmem_report_more *more)
{
	const struct osmem_slab *s = osmem_slab_of(slot);
	size_t offset;
	size_t carved;

	if (s == NULL)
		return;
	offset = (size_t)(slot - s->start);
	carved = osmem_slab_carved(s);
	more->slot = offset / s->size + 1;
	more->slots = s->most / s->size;
	more->owner = misuse_owner(s);
	if (offset >= s->size && offset <= carved)
		more->before = misuse_slot(s, slot - s->size);
	if (offset + s->size < carved)
		more->behind = misuse_slot(s, slot + s->size);
}

/* The report is made without the lock; the caller gets it back. */
static void misuse_pass(const char *call, const void *ptr)
{
	bool locked = osmem_lock_is_mine(&osmem_core_lock) ||
		      !OSMEM_CONF_THREADS;

	if (osmem_option(OSMEM_OPT_FOREIGN) == OS_FOREIGN_IGNORE)
		return;
	if (locked)
		osmem_unlock(&osmem_core_lock);
	osmem_report_foreign(call, ptr);
	if (locked)
		osmem_lock(&osmem_core_lock);
}

void osmem_misuse(const char *call, const void *ptr, struct osmem_place place)
{
	struct osmem_report_more more = { .slots = 0 };

	/* What lies in the slabs' space is ours even if no block is there. */
	if (place.found == OSMEM_FOUND_NOTHING && osmem_region_holds(ptr))
		place.found = OSMEM_FOUND_GONE;
	if (place.found == OSMEM_FOUND_NOTHING &&
	    osmem_option(OSMEM_OPT_FOREIGN) != OS_FOREIGN_ABORT) {
		misuse_pass(call, ptr);
		return;
	}
	if (place.block != NULL)
		misuse_look_in_heap(place.block, &more);
	else if (place.slot != NULL)
		misuse_look_in_slab(place.slot, &more);
	osmem_report_pointer_in(call, ptr, place, &more);
}
