/* SPDX-License-Identifier: MIT */
/*
 * hard_maps.c - the hardened allocator's large blocks: mappings with pages
 * without access on both sides.
 *
 * A record of each stands out of line, in a set by its address. A freed one
 * keeps record and address space, but no memory and no access, until chance
 * and a queue have passed it on. Guarded by the core's lock, which is not held
 * around system calls for mappings.
 */
#include "hard_state.h"

#include "die.h"
#include "index.h"
#include "sys.h"

enum {
	MAPS_CHUNK = 64 << 10, /* of records */
	MAPS_KEPT = 128,       /* freed ones, at most */
	MAPS_CHANCE = 32,      /* of these, at random places */
	MAPS_SPARE = 16	       /* that wait for a block behind the queue */
};

#define MAPS_KEPT_BYTES ((size_t)(sizeof(void *) == 8 ? 1024 : 32) << 20)

static struct {
	struct osmem_index set;
	struct hard_map *unused;
	struct hard_map *kept[MAPS_KEPT]; /* chance, then the queue */
	size_t first;			  /* the oldest of the queue */
	size_t kept_bytes;
	size_t blocks;
	size_t bytes;
	struct hard_map *spare[MAPS_SPARE];
	size_t next_spare; /* whose place the next one takes */
	unsigned long frees;
	bool limited; /* address space, when last asked */
	struct hard_map *stuck; /* could not be unmapped: tried again */
	struct hard_random random;
} maps_all;

void osmem_hard_maps_seed(void)
{
	osmem_hard_seed(&maps_all.random);
}

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
	maps_all.blocks++;
	maps_all.bytes += hard_map_body(m->size);
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

static bool maps_give_up_kept(void);

/* What is only kept, or reserved, goes when address space is short. */
static int maps_reserve(size_t size, void **start)
{
	int err = osmem_sys_reserve(size, start);
	bool more;

	if (err == 0)
		return 0;
	more = maps_give_up_kept();
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

	if (alignment <= page)
		alignment = page;
	else
		whole += alignment;
	if (grows && whole < SIZE_MAX / 4 &&
	    osmem_sys_space_limit() == SIZE_MAX)
		whole += body;
	if (!hard_guard(0) || maps_reserve(whole, &start) != 0)
		return maps_make_bare(map, alignment);
	map->start = start;
	map->whole = whole;
	map->payload = (char *)osmem_up((uintptr_t)start + page, alignment);
	map->guarded = true;
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

static void maps_retire(struct hard_map *m);

/* The address space of a freed block that is not much too large. Lock. */
static struct hard_map *maps_take_spare(size_t whole)
{
	struct hard_map *m;
	size_t i;

	for (i = 0; i < MAPS_SPARE; i++) {
		m = maps_all.spare[i];
		if (m == NULL || m->whole < whole ||
		    m->whole - whole > whole / 4)
			continue;
		maps_all.spare[i] = NULL;
		return m;
	}
	return NULL;
}

/* Makes a block of it. False without memory; the mapping is spare again. */
static bool maps_use_spare(struct hard_map *m, size_t size, size_t alignment)
{
	size_t page = osmem_sys_page_size();
	bool done;

	m->payload = m->start + page;
	m->size = size;
	m->alignment = alignment;
	done = DIE(osmem_sys_commit(m->payload, hard_map_body(size)),
		   "mprotect", size) == 0;
	if (done)
		hard_map_write_canary(m);
	osmem_lock(&osmem_core_lock);
	m->live = done;
	if (done) {
		maps_all.blocks++;
		maps_all.bytes += hard_map_body(size);
	}
	osmem_unlock(&osmem_core_lock);
	return done;
}

static void *maps_reuse(size_t size, size_t alignment)
{
	size_t page = osmem_sys_page_size();
	struct hard_map *m = NULL;

	if (alignment > page)
		return NULL;
	osmem_lock(&osmem_core_lock);
	m = maps_take_spare(hard_map_body(size) + 2 * page);
	osmem_unlock(&osmem_core_lock);
	if (m == NULL)
		return NULL;
	if (maps_use_spare(m, size, alignment))
		return m->payload;
	maps_retire(m);
	return NULL;
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
	if (!maps_make(&map, alignment, grows))
		return NULL;
	hard_map_write_canary(&map);
	osmem_lock(&osmem_core_lock);
	m = maps_enter(map);
	osmem_unlock(&osmem_core_lock);
	if (m != NULL)
		return map.payload;
	maps_unmap(&map);
	return NULL;
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
	struct hard_map *m = maps_find(ptr);
	struct osmem_place place;

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

/* The record that leaves for this one; it may be itself. Lock. */
static struct hard_map *maps_keep(struct hard_map *m)
{
	size_t i = hard_draw(&maps_all.random, MAPS_CHANCE);
	struct hard_map *out = maps_all.kept[i];

	maps_all.kept[i] = m;
	maps_all.kept_bytes += m->whole;
	if (out != NULL) {
		i = maps_all.first + MAPS_CHANCE;
		m = out;
		out = maps_all.kept[i];
		maps_all.kept[i] = m;
		maps_all.first = (maps_all.first + 1) %
				 (MAPS_KEPT - MAPS_CHANCE);
	}
	if (out != NULL)
		maps_all.kept_bytes -= out->whole;
	return out;
}

/* Another, when all together are too large: the oldest, not the last. Lock. */
static struct hard_map *maps_surplus(const struct hard_map *last)
{
	struct hard_map *out = NULL;
	size_t i;

	if (maps_all.kept_bytes <= MAPS_KEPT_BYTES)
		return NULL;
	for (i = 0; i < MAPS_KEPT && out == NULL; i++) {
		size_t at = (maps_all.first + MAPS_CHANCE + i) % MAPS_KEPT;

		if (maps_all.kept[at] == last)
			continue;
		out = maps_all.kept[at];
		maps_all.kept[at] = NULL;
	}
	if (out != NULL)
		maps_all.kept_bytes -= out->whole;
	return out;
}

/*
 * Unmaps what a record stands for, with the lock let go, and forgets it. What
 * cannot be unmapped is tried again with the next one.
 */
static void maps_end(struct hard_map *m)
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
		m->next = maps_all.unused;
		maps_all.unused = m;
	} else {
		maps_insert(m, m->start);
		m->next = maps_all.stuck;
		maps_all.stuck = m;
	}
}

static struct hard_map *maps_unstick(void)
{
	struct hard_map *m = maps_all.stuck;

	if (m != NULL)
		maps_all.stuck = m->next;
	return m;
}

/* One that is through the quarantine waits for a block. Lock. */
static struct hard_map *maps_put_spare(struct hard_map *m)
{
	struct hard_map **place = &maps_all.spare[maps_all.next_spare];
	struct hard_map *out = *place;

	if (!m->guarded)
		return m;
	maps_all.next_spare = (maps_all.next_spare + 1) % MAPS_SPARE;
	*place = m;
	return out;
}

/*
 * Under a limit on address space nothing is kept. That is looked at now and
 * then, as it is a system call; a limit that comes between is found by the
 * mapping that fails.
 */
static bool maps_is_limited(void)
{
	bool limited;

	osmem_lock(&osmem_core_lock);
	if (maps_all.frees++ % 64 == 0)
		maps_all.limited = osmem_sys_space_limit() != SIZE_MAX;
	limited = maps_all.limited;
	osmem_unlock(&osmem_core_lock);
	return limited;
}

static void maps_retire(struct hard_map *m)
{
	bool drop = maps_is_limited() ||
		    KEEP(osmem_sys_drop(m->start, m->whole), "mmap",
			 m->whole) != 0;
	const struct hard_map *last = m;
	struct hard_map *stuck;

	osmem_lock(&osmem_core_lock);
	stuck = maps_unstick();
	if (stuck != NULL)
		maps_end(stuck);
	if (!drop)
		m = maps_keep(m);
	if (!drop && m != NULL)
		m = maps_put_spare(m);
	if (m != NULL)
		maps_end(m);
	while ((m = maps_surplus(last)) != NULL)
		maps_end(m);
	osmem_unlock(&osmem_core_lock);
}

static struct hard_map *maps_any_of(struct hard_map **from, size_t count)
{
	struct hard_map *m = NULL;
	size_t i;

	for (i = 0; i < count && m == NULL; i++) {
		m = from[i];
		from[i] = NULL;
	}
	return m;
}

static bool maps_give_up_kept(void)
{
	struct hard_map *m;
	bool any = false;

	osmem_lock(&osmem_core_lock);
	while ((m = maps_any_of(maps_all.kept, MAPS_KEPT)) != NULL ||
	       (m = maps_any_of(maps_all.spare, MAPS_SPARE)) != NULL) {
		maps_end(m);
		any = true;
	}
	maps_all.kept_bytes = 0;
	osmem_unlock(&osmem_core_lock);
	return any;
}

bool osmem_hard_map_free(const char *call, void *ptr)
{
	struct hard_map *m;

	osmem_lock(&osmem_core_lock);
	m = maps_live(call, ptr);
	if (m != NULL) {
		m->live = false;
		maps_all.blocks--;
		maps_all.bytes -= hard_map_body(m->size);
	}
	osmem_unlock(&osmem_core_lock);
	if (m == NULL)
		return false;
	maps_retire(m);
	return true;
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
}

/* Who looks at it meanwhile finds it whole: its pages are there. */
static void maps_set_size(struct hard_map *m, size_t size)
{
	osmem_lock(&osmem_core_lock);
	maps_clear(m, size);
	maps_all.bytes += hard_map_body(size) - hard_map_body(m->size);
	m->size = size;
	hard_map_write_canary(m);
	osmem_unlock(&osmem_core_lock);
}

/* What the block gets less goes back, or is cleared at least. */
static void maps_drop_end(const struct hard_map *m, size_t before)
{
	char *end = m->payload + hard_map_body(m->size);
	size_t less = (size_t)(m->payload + before - end);

	if (KEEP(osmem_sys_drop(end, less), "mmap", less) != 0)
		memset(end, 0, less);
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
		maps_drop_end(m, before);
	return true;
}
