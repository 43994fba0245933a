/* SPDX-License-Identifier: MIT */
/*
 * slab_tear.c - pieces of slabs go back to the system, and come again.
 *
 * The slab is held. Must never read a slot of a piece that is gone.
 */
#include "slab_state.h"

#include "check.h"
#include "sys.h"

/* The pieces with memory and without a slot in use. */
static uint32_t slab_idle_pieces(const struct osmem_slab *s)
{
	uint32_t pieces = 0;
	uint32_t i;

	for (i = 0; i < OSMEM_SLAB_PIECES; i++)
		if (s->busy[i] == 0 &&
		    i * slab_piece_size(s) < osmem_slab_carved(s))
			pieces |= 1U << i;
	return pieces & ~slab_gone(s);
}

/* What touches the piece leaves the map, and the piece is gone. */
static void slab_forget(struct osmem_slab *s, uint32_t piece)
{
	struct slab_row row = slab_slots(s, piece);
	uint32_t end = osmem_slab_carved(s) / s->size;

	if (end > row.last)
		end = row.last + 1;
	slab_clear_ready(s, row.first, end);
	slab_set_gone(s, slab_gone(s) | 1U << piece);
	s->idle--;
}

/* The whole pages of a row of pieces. */
static void slab_purge(struct osmem_slab *s, uint32_t first, uint32_t last)
{
	size_t page = osmem_sys_page_size();
	size_t size = slab_piece_size(s);
	size_t from = osmem_up(first * size, page);
	size_t to = (last + 1) * size & ~(page - 1);

	if (from < to)
		osmem_region_purge_bytes(s->start + from, to - from);
}

/*
 * Where the last pieces are gone, the slots in them are not carved any more: a
 * slab without holes is not torn.
 */
static void slab_uncarve(struct osmem_slab *s)
{
	uint32_t carved = osmem_slab_carved(s);
	uint32_t gone = slab_gone(s);
	uint32_t pieces = (carved + (uint32_t)slab_piece_size(s) - 1) /
			  (uint32_t)slab_piece_size(s);
	uint32_t kept = pieces;
	uint32_t bytes;

	while (kept != 0 && gone >> (kept - 1) & 1)
		kept--;
	if (kept == pieces)
		return;
	bytes = (pieces - kept) * (uint32_t)slab_piece_size(s);
	slab_set_absent(s, osmem_slab_absent(s) + bytes);
	s->dirty = false;
	slab_set_carved(s, slab_slots(s, kept).first);
	slab_set_gone(s, gone & ((1U << kept) - 1));
}

void osmem_slab_tear(struct osmem_slab *s)
{
	uint32_t pieces = slab_idle_pieces(s);
	uint32_t gone;
	uint32_t i;

	for (i = 0; i < OSMEM_SLAB_PIECES; i++)
		if (pieces >> i & 1)
			slab_forget(s, i);
	OSMEM_ASSERT(s->idle == 0);
	osmem_region_add_gone((ptrdiff_t)slab_pieces_size(s, pieces));
	gone = slab_gone(s);
	/* With what went before: pages between two slots go with the second. */
	for (i = 0; i < OSMEM_SLAB_PIECES; i++) {
		uint32_t first = i;
		uint32_t met = 0;

		for (; i < OSMEM_SLAB_PIECES && gone >> i & 1; i++)
			met |= pieces >> i & 1;
		if (met != 0)
			slab_purge(s, first, i - 1);
	}
	slab_uncarve(s);
}

/* The slots of the lowest piece that is gone are ready again. */
static void slab_restore_one(struct osmem_slab *s, uint32_t gone)
{
	uint32_t carved = osmem_slab_carved(s) / s->size;
	uint32_t piece = (uint32_t)__builtin_ctz(gone);
	struct slab_row row = slab_slots(s, piece);

	slab_set_gone(s, gone & (gone - 1));
	s->idle++;
	osmem_region_add_gone(-(ptrdiff_t)slab_piece_size(s));
	for (; row.first <= row.last && row.first < carved; row.first++)
		if (!slab_is_gone(s, row.first)) {
			osmem_slab_set_mark(slab_slot(s, row.first));
			slab_set_ready(s, row.first);
		}
}

void osmem_slab_restore(struct osmem_slab *s)
{
	/* The others have not been missed. */
	if (slab_gone(s) != 0)
		osmem_region_regret(slab_piece_size(s));
	while (slab_gone(s) != 0)
		slab_restore_one(s, slab_gone(s));
}
