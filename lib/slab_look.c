/* SPDX-License-Identifier: MIT */
/*
 * slab_look.c - walking, counting and checking slabs. Reads only; needs the
 * core's lock, which keeps slabs from coming and going, or, for what the holder
 * alone may touch, to be the holder.
 */
#include "slab_state.h"

#include "print.h"

struct osmem_slab *osmem_slab_above(const void *p)
{
	size_t units = atomic_load_explicit(&osmem_region.limit,
					    memory_order_relaxed) >>
		       OSMEM_UNIT_SHIFT;
	size_t i = 0;

	if ((const char *)p >= osmem_region.base)
		i = ((size_t)((const char *)p - osmem_region.base) >>
		     OSMEM_UNIT_SHIFT) +
		    1;
	for (; i < units; i++) {
		struct osmem_slab *s =
			osmem_slab_headed(osmem_region.heads[i]);

		if (s != &osmem_slab_nobody && s == osmem_slab_record(i))
			return s;
	}
	return NULL;
}

size_t osmem_slab_used(const struct osmem_slab *s)
{
	const char *p = s->start;
	const char *end = p + osmem_slab_carved(s);
	size_t used = 0;

	for (; p < end; p += s->size)
		used += !osmem_slab_is_free(s, p);
	return used;
}

static int slab_fault(bool broken, const struct osmem_slab *s, const char *what)
{
	if (broken)
		osmem_print(2, "%s: heap check: slab %p: %s\n", OSMEM_NAME,
			    (const void *)s->start, what);
	return broken;
}

static int slab_check_one(const struct osmem_slab *s)
{
	size_t first = (size_t)(s->start - osmem_region.base) >>
		       OSMEM_UNIT_SHIFT;
	int faults = 0;
	size_t i;

	faults += slab_fault(s != osmem_slab_record(first), s, "odd start");
	faults += slab_fault(s->class >= OSMEM_CLASSES ||
			     s->size != osmem_class_size(s->class),
			     s, "odd class");
	faults += slab_fault(osmem_slab_carved(s) > s->most ||
			     osmem_slab_carved(s) % s->size != 0,
			     s, "odd number of slots");
	for (i = 0; i < s->units; i++)
		faults += slab_fault(osmem_region.heads[first + i] !=
					     osmem_slab_head(s),
				     s,
				     "a unit of it is somebody else's");
	return faults;
}

int osmem_slab_check(void)
{
	struct osmem_slab *s = NULL;
	size_t bytes = 0;
	int faults = 0;

	while ((s = osmem_slab_above(s == NULL ? NULL : s->start)) != NULL) {
		faults += slab_check_one(s);
		bytes += (size_t)s->units << OSMEM_UNIT_SHIFT;
	}
	return faults + (bytes != osmem_region_totals().used);
}

/* --- what the holder knows --- */

/* Slots in use, by the map: what the record should say. */
struct slab_tally {
	uint32_t used;
	uint32_t busy[OSMEM_SLAB_PIECES];
	uint64_t ready;
	uint32_t idle;
	bool written; /* a slot that is free, and lacks its mark */
};

static void slab_tally_slot(struct slab_tally *tally,
			    const struct osmem_slab *s, uint32_t index)
{
	struct slab_row row = slab_pieces(s, index);

	if ((s->map[index / 64] >> index % 64 & 1) != 0) {
		tally->ready |= (uint64_t)1 << index / 64;
		tally->written |= !osmem_slab_is_marked(slab_slot(s, index));
		return;
	}
	tally->used++;
	for (; row.first <= row.last; row.first++)
		tally->busy[row.first]++;
}

static struct slab_tally slab_make_tally(const struct osmem_slab *s)
{
	struct slab_tally tally = { .used = 0 };
	uint32_t slots = osmem_slab_carved(s) / s->size;
	uint32_t i;

	for (i = 0; i < slots; i++)
		if (!slab_is_gone(s, i))
			slab_tally_slot(&tally, s, i);
	for (i = 0; i < OSMEM_SLAB_PIECES; i++)
		tally.idle += tally.busy[i] == 0 &&
			      (slab_gone(s) >> i & 1) == 0 &&
			      i * slab_piece_size(s) < osmem_slab_carved(s);
	return tally;
}

/* Others may add to the remote list; what stands there already stays. */
static bool slab_remote_is_whole(const struct osmem_slab *s)
{
	osmem_slab_word remote =
		atomic_load_explicit(&s->remote, memory_order_acquire);
	uint32_t most = osmem_slab_count(remote);
	uint32_t link = slab_link(slab_links_in(remote), 0);
	struct slab_links links = slab_links(s);
	uintptr_t *slot;
	uintptr_t next;
	uint32_t count;

	for (count = 0; link != 0 && count < most; count++) {
		if (link > links.slots || slab_is_gone(s, link - 1))
			return false;
		slot = slab_linked(&links, link);
		next = slab_links_of(&links, slot);
		if (!slab_is_whole(&links, slot, next))
			return false;
		link = slab_link(next, 0);
	}
	return link == 0 && count == most;
}

int osmem_slab_check_held(const struct osmem_slab *s)
{
	struct slab_tally tally = slab_make_tally(s);
	int faults = 0;
	uint32_t i;

	faults += slab_fault(!slab_remote_is_whole(s), s,
			     "odd list of slots that others have freed");
	faults += slab_fault(tally.written, s, "a free slot was written to");
	faults += slab_fault(tally.used != osmem_slab_in_use(s), s,
			     "odd number of slots in use");
	faults += slab_fault(osmem_slab_waiting(s) > tally.used, s,
			     "more slots are freed than were in use");
	faults += slab_fault(tally.ready != s->ready || tally.idle != s->idle,
			     s, "odd pieces");
	for (i = 0; i < OSMEM_SLAB_PIECES; i++)
		faults += slab_fault(tally.busy[i] != s->busy[i], s,
				     "odd number of slots in use in a piece");
	return faults;
}
