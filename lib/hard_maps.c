/* SPDX-License-Identifier: MIT */
/*
 * hard_maps.c - the hardened allocator's large blocks: mappings with pages
 * without access on both sides.
 *
 * A record of each stands out of line, in a set by its address; hard_kept.c
 * has those that are freed. Guarded by the core's lock, which is not held
 * around system calls for mappings.
 */
#include "hard_state.h"

#include "die.h"
#include "index.h"
#include "sys.h"

enum {
	MAPS_CHUNK = 64 << 10, /* of records */
	MAPS_NEAR_BITS = 8
};

/* Larger ones have no address space ahead. */
#define MAPS_ROUNDED ((size_t)32 << 20)

static struct {
	struct osmem_index set;
	struct hard_map *unused;
	/* Records by their payload, to be found at once; NULL, or any. */
	struct hard_map *near[1 << MAPS_NEAR_BITS];
	size_t blocks;
	size_t bytes;
} maps_all;

/* --- records --- */

/* A page without access on either side. Lock. */
static bool maps_add_records(void)
{
	size_t page = osmem_sys_page_size();
	size_t size = osmem_up(MAPS_CHUNK, page);
	void *start = NULL;
	struct hard_map *m;
	size_t i;

	if (DIE(osmem_sys_reserve(size + 2 * page, &start), "mmap", size) != 0)
		return false;
	m = (struct hard_map *)(void *)((char *)start + page);
	if (DIE(osmem_sys_commit(m, size), "mprotect", size) != 0) {
		KEEP(osmem_sys_unmap(start, size + 2 * page), "munmap", size);
		return false;
	}
	for (i = 0; i < size / sizeof(*m); i++) {
		m[i].next = maps_all.unused;
		maps_all.unused = &m[i];
	}
	return true;
}

static bool maps_insert(struct hard_map *m, const char *start)
{
	osmem_index_promise();
	if (osmem_index_insert(&maps_all.set, (struct osmem_key){
						  (uintptr_t)start,
						  (uintptr_t)m }))
		return true;
	osmem_index_forgo();
	return false;
}

static struct hard_map **maps_near(const void *payload)
{
	uint32_t page = (uint32_t)((uintptr_t)payload >> 12);

	return &maps_all.near[page * UINT32_C(0x9e3779b1) >>
			      (32 - MAPS_NEAR_BITS)];
}

static void maps_count(struct hard_map *m)
{
	*maps_near(m->payload) = m;
	maps_all.blocks++;
	maps_all.bytes += hard_map_body(m->size);
}

/* Enters a copy. NULL without memory for it. Lock. */
static struct hard_map *maps_enter(struct hard_map map)
{
	struct hard_map *m;

	if (maps_all.unused == NULL && !maps_add_records())
		return NULL;
	m = maps_all.unused;
	if (!maps_insert(m, map.start))
		return NULL;
	maps_all.unused = m->next;
	*m = map;
	maps_count(m);
	return m;
}

/* The record of the mapping that holds ptr, guards included. Lock. */
static struct hard_map *maps_find(const void *ptr)
{
	struct osmem_key key = { (uintptr_t)ptr, UINTPTR_MAX };
	struct hard_map *m;

	if (!osmem_index_at_most(&maps_all.set, key, &key))
		return NULL;
	m = (struct hard_map *)key.b;
	return (uintptr_t)ptr - (uintptr_t)m->start < m->whole ? m : NULL;
}

/* --- making them --- */

/* What is only kept, or reserved, goes when address space is short. */
static int maps_reserve(size_t size, void **start)
{
	int err = osmem_sys_reserve(size, start);
	bool more;

	if (err == 0)
		return 0;
	more = osmem_hard_kept_give_up();
	more |= osmem_hard_slabs_release_spare();
	return more ? osmem_sys_reserve(size, start) : err;
}

/* The system may have no guards left: the block goes without. */
static bool maps_make_bare(struct hard_map *map, size_t alignment)
{
	size_t size = hard_map_body(map->size) + alignment;
	void *start = NULL;

	if (DIE(osmem_sys_map(size, &start), "mmap", size) != 0)
		return false;
	map->start = start;
	map->whole = size;
	map->payload = (char *)osmem_up((uintptr_t)start, alignment);
	map->open = map->held = hard_map_body(map->size);
	map->guarded = false;
	return true;
}

/* What a block that grows will need lies ahead, without access. */
static bool maps_make(struct hard_map *map, size_t alignment, bool grows)
{
	size_t page = osmem_sys_page_size();
	size_t body = hard_map_body(map->size);
	size_t whole = body + 2 * page;
	void *start = NULL;

	if (alignment > page)
		whole += alignment;
	else if (body <= MAPS_ROUNDED) /* others will fit, too */
		whole = osmem_up(osmem_class_round(body), page) + 2 * page;
	if (alignment < page)
		alignment = page;
	if (grows && whole < SIZE_MAX / 4 &&
	    osmem_sys_space_limit() == SIZE_MAX)
		whole += body;
	if (!hard_guard(0) || maps_reserve(whole, &start) != 0)
		return maps_make_bare(map, alignment);
	map->start = start;
	map->whole = whole;
	map->payload = (char *)osmem_up((uintptr_t)start + page, alignment);
	map->guarded = true;
	map->open = map->held = body;
	if (osmem_sys_commit(map->payload, body) == 0) {
		hard_guard(1);
		return true;
	}
	KEEP(osmem_sys_unmap(start, whole), "munmap", whole);
	return maps_make_bare(map, alignment);
}

static bool maps_unmap(const struct hard_map *m)
{
	if (KEEP(osmem_sys_unmap(m->start, m->whole), "munmap", m->whole) != 0)
		return false;
	if (m->guarded)
		hard_guard(-1);
	return true;
}

/* --- finding them --- */

static struct osmem_place maps_place(const struct hard_map *m, const void *ptr)
{
	struct osmem_place place = { .found = OSMEM_FOUND_FREE,
				     .slot = m->payload,
				     .slot_size = m->size };

	if (m->live)
		place.found = ptr == m->payload ? OSMEM_FOUND_LIVE :
						  OSMEM_FOUND_INSIDE;
	return place;
}

struct osmem_place osmem_hard_map_locate(const void *ptr)
{
	struct hard_map *m = maps_find(ptr);

	if (m == NULL)
		return (struct osmem_place){ .found = OSMEM_FOUND_NOTHING };
	return maps_place(m, ptr);
}

bool osmem_hard_map_above(const void *p, struct os_block *block)
{
	struct osmem_key key = { (uintptr_t)p, UINTPTR_MAX };
	struct hard_map *m;

	do {
		if (!osmem_index_above(&maps_all.set, key, &key))
			return false;
		m = (struct hard_map *)key.b;
	} while (!m->live || m->payload <= (const char *)p);
	block->ptr = m->payload;
	block->size = m->size;
	block->state = OS_BLOCK_MAPPED;
	return true;
}

bool osmem_hard_map_holds(const void *ptr)
{
	struct hard_map *m = maps_find(ptr);

	return m != NULL && hard_map_holds(m);
}

void osmem_hard_map_totals(struct osmem_hard_totals *totals)
{
	totals->map_blocks = maps_all.blocks;
	totals->map_bytes = maps_all.bytes;
}

/* The record of a live, whole block; NULL when ptr is in none. Lock. */
static struct hard_map *maps_live(const char *call, const void *ptr)
{
	struct hard_map *m = *maps_near(ptr);
	struct osmem_place place;

	if (m == NULL || m->payload != ptr)
		m = maps_find(ptr);
	if (m == NULL)
		return NULL;
	place = maps_place(m, ptr);
	if (place.found == OSMEM_FOUND_LIVE && !hard_map_holds(m))
		place.found = OSMEM_FOUND_OVERRUN;
	if (unlikely(place.found != OSMEM_FOUND_LIVE))
		osmem_report_pointer(call, ptr, place);
	return m;
}

void osmem_hard_map_verify(const char *call, const void *ptr)
{
	osmem_lock(&osmem_core_lock);
	maps_live(call, ptr);
	osmem_unlock(&osmem_core_lock);
}

bool osmem_hard_map_is_zeroed(const void *ptr)
{
	struct hard_map *m;
	bool zeroed;

	osmem_lock(&osmem_core_lock);
	m = maps_find(ptr);
	zeroed = m != NULL && !m->dirty;
	osmem_unlock(&osmem_core_lock);
	return zeroed;
}

bool osmem_hard_map_is_aligned(const void *ptr, size_t alignment)
{
	struct hard_map *m;
	bool same;

	osmem_lock(&osmem_core_lock);
	m = maps_find(ptr);
	same = m != NULL && m->alignment == alignment;
	osmem_unlock(&osmem_core_lock);
	return same;
}

/* --- freeing them --- */

/*
 * With the lock let go between. What cannot be unmapped stays, without being
 * anybody's.
 */
bool osmem_hard_map_end(struct hard_map *m)
{
	bool gone;

	osmem_index_remove(&maps_all.set,
			   (struct osmem_key){ (uintptr_t)m->start,
					       (uintptr_t)m });
	osmem_index_forgo();
	osmem_unlock(&osmem_core_lock);
	gone = maps_unmap(m);
	osmem_lock(&osmem_core_lock);
	if (gone) {
		m->payload = NULL;
		m->next = maps_all.unused;
		maps_all.unused = m;
	} else {
		maps_insert(m, m->start);
	}
	return gone;
}

size_t osmem_hard_map_bytes(void)
{
	return maps_all.bytes;
}

bool osmem_hard_map_free(const char *call, void *ptr)
{
	struct hard_map *out = NULL;
	struct hard_map *m;

	osmem_lock(&osmem_core_lock);
	m = maps_live(call, ptr);
	if (m != NULL) {
		m->live = false;
		maps_all.blocks--;
		maps_all.bytes -= hard_map_body(m->size);
		out = osmem_hard_kept_put(m);
	}
	osmem_unlock(&osmem_core_lock);
	osmem_hard_kept_retire(out);
	return m != NULL;
}

/* --- handing them out --- */

static void maps_begin(struct hard_map *m, size_t size, size_t alignment)
{
	m->size = size;
	m->alignment = alignment;
	m->live = true;
	hard_map_write_canary(m);
	maps_count(m);
}

/* Gives a freed one another size. False without memory. */
static bool maps_refit(struct hard_map *m, size_t size)
{
	size_t before = m->open;
	size_t after = hard_map_body(size);

	if (before == 0)
		m->payload = m->start + hard_map_guards(m) / 2;
	if (after < before)
		return KEEP(osmem_sys_guard(m->payload + after, before - after),
			    "mprotect", before - after) == 0;
	if (DIE(osmem_sys_commit(m->payload + before, after - before),
		"mprotect", after - before) != 0)
		return false;
	/* It could not be unmapped, and has what it had. */
	if (before == 0 && m->dirty) {
		memset(m->payload, 0, after);
		m->dirty = false;
	}
	return true;
}

static void *maps_reuse(size_t size, size_t alignment)
{
	size_t body = hard_map_body(size);
	struct hard_map *m;
	bool fits;

	if (alignment > osmem_sys_page_size())
		return NULL;
	osmem_lock(&osmem_core_lock);
	m = osmem_hard_kept_take(body);
	fits = m != NULL && m->open == body;
	if (fits)
		maps_begin(m, size, alignment);
	osmem_unlock(&osmem_core_lock);
	if (m == NULL || fits)
		return m == NULL ? NULL : m->payload;
	if (!maps_refit(m, size)) {
		m->next = NULL;
		osmem_hard_kept_retire(m);
		return NULL;
	}
	osmem_lock(&osmem_core_lock);
	m->open = body;
	if (m->held < body)
		m->held = body;
	maps_begin(m, size, alignment);
	osmem_unlock(&osmem_core_lock);
	return m->payload;
}

void *osmem_hard_map(size_t size, size_t alignment, bool grows)
{
	struct hard_map map = { .size = size,
				.alignment = alignment,
				.live = true };
	struct hard_map *m;
	void *p;

	if (alignment > PTRDIFF_MAX - size)
		return NULL;
	p = grows ? NULL : maps_reuse(size, alignment);
	if (p != NULL)
		return p;
	/* What could not be unmapped to make room for it will do. */
	if (!maps_make(&map, alignment, grows))
		return maps_reuse(size, alignment);
	hard_map_write_canary(&map);
	osmem_lock(&osmem_core_lock);
	m = maps_enter(map);
	osmem_unlock(&osmem_core_lock);
	if (m != NULL)
		return map.payload;
	maps_unmap(&map);
	return NULL;
}

/* --- resizing them --- */

static bool maps_fits(const struct hard_map *m, size_t size)
{
	size_t room = (size_t)(m->start + m->whole - m->payload);

	return size > HARD_LARGEST && size >= m->size / 2 &&
	       hard_map_body(size) <= room - (m->guarded ?
						  osmem_sys_page_size() :
						  0);
}

/* What was the canary, and what was cut off of a page that stays, is zero. */
static void maps_clear(struct hard_map *m, size_t size)
{
	size_t from = m->size < size ? m->size : size;
	size_t to = m->size + hard_map_slack(m);
	size_t end = hard_map_body(size);

	memset(m->payload + from, 0, (to < end ? to : end) - from);
	/* What it once had may still be there. */
	if (end > m->open && m->held > m->open)
		memset(m->payload + m->open, 0,
		       (m->held < end ? m->held : end) - m->open);
}

/* Who looks at it meanwhile finds it whole: its pages are there. */
static void maps_set_size(struct hard_map *m, size_t size)
{
	osmem_lock(&osmem_core_lock);
	maps_clear(m, size);
	maps_all.bytes += hard_map_body(size) - hard_map_body(m->size);
	m->size = size;
	m->open = hard_map_body(size);
	if (m->held < m->open)
		m->held = m->open;
	hard_map_write_canary(m);
	osmem_unlock(&osmem_core_lock);
}

/* What the block gets less goes back, or is cleared at least. */
static void maps_drop_end(struct hard_map *m)
{
	char *end = m->payload + m->open;
	size_t less = m->held - m->open;

	if (KEEP(osmem_sys_drop(end, less), "mmap", less) != 0)
		memset(end, 0, less);
	else
		m->held = m->open;
}

bool osmem_hard_map_resize(const char *call, const void *ptr, size_t size)
{
	size_t after = hard_map_body(size);
	struct hard_map *m;
	size_t before;
	bool fits;

	if (size > PTRDIFF_MAX)
		return false;
	osmem_lock(&osmem_core_lock);
	m = maps_live(call, ptr);
	fits = m != NULL && maps_fits(m, size);
	osmem_unlock(&osmem_core_lock);
	if (!fits)
		return false;
	/* The block is the caller's. */
	before = hard_map_body(m->size);
	if (after > before && KEEP(osmem_sys_commit(m->payload + before,
						    after - before),
				   "mprotect", after - before) != 0)
		return false;
	maps_set_size(m, size);
	if (after < before)
		maps_drop_end(m);
	return true;
}
