/* SPDX-License-Identifier: MIT */
/*
 * hard_slabs.c - the hardened allocator's slabs: where they lie, and their
 * free slots that no thread has.
 *
 * Each class has a lock, for its slabs' lists and bitmaps. The place lock is
 * taken after it, for the frontier, and no other
 * after that one. A slab's address space stays its class's
 * for good. Between two slabs lies at least one page without access.
 */
#include "hard_state.h"

#include "die.h"
#include "sys.h"

OSMEM_VAR_DEFINED struct hard_region osmem_hard_region;
OSMEM_VAR_DEFINED atomic_bool osmem_hard_used;

#define SLABS_LARGEST ((size_t)1 << (sizeof(void *) == 8 ? 40 : 27))
#define SLABS_SMALLEST ((size_t)8 << 20)
#define SLABS_ROOMY ((size_t)1 << 30)

enum {
	SLABS_STEP = 32, /* units whose tables are committed at once */
	SLABS_SKIP = 4,	 /* up to so many less one are left out before a slab */
	SLABS_ALLOWANCE_LEAST = 1 << 20,
	SLABS_ALLOWANCE_MOST = 64 << 20,
	SLABS_TABLES = 2
};

enum slabs_state { SLABS_USED, SLABS_EMPTY, SLABS_CLEAN };

struct slabs_class {
	struct osmem_lock lock;
	struct hard_slab *partial; /* those with free slots, or uncarved ones */
	uint32_t size;
	uint32_t slots;
	uint16_t units;
};

static struct slabs_class slabs_classes[HARD_CLASSES];

/*
 * Empty slabs with memory, in bytes, and how many there may be: what is taken
 * again after its memory went back adds its size, each that goes back takes
 * half of its size off. Relaxed: a wrong guess costs time only.
 */
static struct {
	atomic_size_t idle;
	atomic_size_t allowance;
} slabs_count = { .allowance = SLABS_ALLOWANCE_LEAST };

/* place guards all of it, and the region but for what is atomic. */
static struct {
	struct osmem_lock place;
	struct hard_random random;
	size_t frontier; /* units taken so far */
	char *end;	 /* of what was committed last */
} slabs_all;

/* --- the region --- */

/* What belongs to so many units in one of the tables, in whole pages. */
static size_t slabs_table(int which, size_t units)
{
	size_t each = which == 0 ? sizeof(struct hard_slab) :
				   HARD_UNIT / 16 * sizeof(hard_word);
	size_t bytes = units * each;

	return osmem_up(bytes, osmem_sys_page_size());
}

static char *slabs_table_start(int which)
{
	return which == 0 ? (char *)osmem_hard_region.records :
			    (char *)osmem_hard_region.words;
}

/* Slabs, records and words in one reservation, a unit between them. */
static bool slabs_reserve(size_t size)
{
	struct hard_region *r = &osmem_hard_region;
	size_t units = size >> HARD_UNIT_SHIFT;
	size_t records = osmem_up(slabs_table(0, units), HARD_UNIT);
	size_t words = osmem_up(slabs_table(1, units), HARD_UNIT);
	void *start = NULL;

	if (osmem_sys_reserve(size + records + words + 5 * HARD_UNIT, &start) !=
	    0)
		return false;
	r->base = (char *)osmem_up((uintptr_t)start + HARD_UNIT, HARD_UNIT);
	r->records = (struct hard_slab *)(r->base + size + HARD_UNIT);
	r->words = (hard_word *)(r->base + size + records + 2 * HARD_UNIT);
	r->reserved = size;
	return true;
}

static void slabs_set_classes(void)
{
	size_t page = osmem_sys_page_size();
	size_t shared = page <= HARD_UNIT / 4 ? HARD_UNIT - page : HARD_UNIT;
	unsigned int class;

	for (class = 0; class < HARD_CLASSES; class++) {
		struct slabs_class *c = &slabs_classes[class];
		size_t bytes = shared;

		c->size = 16;
		if (class < HARD_NOTHING)
			c->size = (uint32_t)osmem_class_size(class);
		if (c->size > HARD_SHARED)
			bytes = c->size;
		else if (c->size > HARD_DENSE)
			bytes += HARD_UNIT;
		c->slots = (uint32_t)(bytes / c->size);
		c->units = (uint16_t)(osmem_up(bytes + page, HARD_UNIT) >>
				      HARD_UNIT_SHIFT);
	}
}

/* A quarter of a limit on address space at most, tables included. */
static size_t slabs_largest(void)
{
	size_t limit = osmem_sys_space_limit();
	size_t size = SLABS_LARGEST;

	while (limit != SIZE_MAX && size + size / 2 > limit / 4)
		size /= 2;
	return size;
}

void osmem_hard_seed(struct hard_random *r)
{
	uint64_t seed[2];

	osmem_sys_seed(seed);
	*r = (struct hard_random){ seed[0] | 1, seed[1] };
}

bool osmem_hard_slabs_open(void)
{
	struct hard_region *r = &osmem_hard_region;
	uint64_t seed[2];
	size_t size;

	osmem_sys_seed(seed);
	r->canary = seed[0] | 1;
	osmem_hard_seed(&slabs_all.random);
	slabs_set_classes();
	for (size = slabs_largest(); size >= SLABS_SMALLEST; size /= 2)
		if (slabs_reserve(size)) {
			if (size >= SLABS_ROOMY)
				slabs_all.frontier =
					hard_draw(&slabs_all.random, 512);
			slabs_all.end = r->base;
			return true;
		}
	return false;
}

static bool slabs_unmap(char *from, char *to)
{
	return from < to && KEEP(osmem_sys_unmap(from, (size_t)(to - from)),
				 "munmap", (size_t)(to - from)) == 0;
}

/* Keeps the address space of so many bytes, or that which is used. Place. */
static bool slabs_shrink(size_t size)
{
	struct hard_region *r = &osmem_hard_region;
	size_t limit = atomic_load_explicit(&r->limit, memory_order_relaxed);
	bool any;
	int i;

	if (size < limit)
		size = limit;
	if (size >= r->reserved)
		return false;
	any = slabs_unmap(r->base + size, r->base + r->reserved);
	for (i = 0; i < SLABS_TABLES && any; i++)
		slabs_unmap(slabs_table_start(i) +
				    slabs_table(i, size >> HARD_UNIT_SHIFT),
			    slabs_table_start(i) +
				    slabs_table(i, r->reserved >>
							   HARD_UNIT_SHIFT));
	if (any)
		r->reserved = size;
	return any;
}

/*
 * Commits the tables of units up to the limit's next steps. The kernel does not
 * ask RLIMIT_AS then: one that was set since is kept by us.
 */
static bool slabs_commit_tables(size_t units)
{
	struct hard_region *r = &osmem_hard_region;
	size_t from = atomic_load_explicit(&r->limit, memory_order_relaxed) >>
		      HARD_UNIT_SHIFT;
	size_t to = osmem_up(units, SLABS_STEP);
	int i;

	if (units <= from)
		return true;
	/* Asked each time when all is used up, the limit would cost calls. */
	if (to << HARD_UNIT_SHIFT > r->reserved)
		return false;
	if (osmem_sys_counts_space())
		slabs_shrink(slabs_largest());
	if (to << HARD_UNIT_SHIFT > r->reserved)
		return false;
	for (i = 0; i < SLABS_TABLES; i++) {
		size_t have = slabs_table(i, from);
		size_t more = slabs_table(i, to) - have;

		if (more != 0 &&
		    DIE(osmem_sys_commit(slabs_table_start(i) + have, more),
			"mprotect", more) != 0)
			return false;
	}
	atomic_store_explicit(&r->limit, to << HARD_UNIT_SHIFT,
			      memory_order_release);
	return true;
}

/*
 * Commits a slab's memory. A page without access between two others costs two
 * entries of the system's table of mappings: when that is full, what lies
 * between this slab and the one before is committed, too, which costs none.
 */
static bool slabs_commit(char *start, size_t size)
{
	char *from = hard_guard(0) ? start : slabs_all.end;
	int err = osmem_sys_commit(from, (size_t)(start - from) + size);

	if (err != 0 && from == start) {
		err = osmem_sys_commit(slabs_all.end,
				       (size_t)(start - slabs_all.end) + size);
		if (err == 0)
			atomic_store_explicit(&osmem_hard_region.unguarded,
					      true, memory_order_relaxed);
	}
	if (DIE(err, "mprotect", size) != 0)
		return false;
	hard_guard(1);
	slabs_all.end = start + size;
	return true;
}

/*
 * How far into its units a slab begins, of so many bytes. Of slabs of one slot
 * that is left to chance, also so that not all of them meet in the same lines
 * of the caches. Place.
 */
static size_t slabs_shift(const struct slabs_class *c, size_t size)
{
	size_t page = osmem_sys_page_size();
	size_t spare = ((size_t)c->units << HARD_UNIT_SHIFT) - page - size;

	if (c->slots != 1)
		return 0;
	return hard_draw(&slabs_all.random, (uint32_t)(spare / page) + 1) *
	       page;
}

/* Units for a slab, committed; where it starts. NULL without memory. Place. */
static char *slabs_place(const struct slabs_class *c)
{
	struct hard_region *r = &osmem_hard_region;
	size_t size = osmem_up((size_t)c->slots * c->size,
			       osmem_sys_page_size());
	size_t unit = slabs_all.frontier;
	char *start;

	if (r->reserved >= SLABS_ROOMY && hard_guard(0))
		unit += hard_draw(&slabs_all.random, SLABS_SKIP);
	start = r->base + (unit << HARD_UNIT_SHIFT) + slabs_shift(c, size);
	if (!slabs_commit_tables(unit + c->units))
		return NULL;
	if (c == &slabs_classes[HARD_NOTHING])
		slabs_all.end = start + HARD_UNIT;
	else if (!slabs_commit(start, size))
		return NULL;
	slabs_all.frontier = unit + c->units;
	atomic_fetch_add_explicit(&r->bytes, size, memory_order_relaxed);
	return start;
}

/* --- lists --- */

static void slabs_link(struct slabs_class *c, struct hard_slab *s)
{
	s->listed = true;
	s->prev = NULL;
	s->next = c->partial;
	if (s->next != NULL)
		s->next->prev = s;
	c->partial = s;
}

static void slabs_unlink(struct slabs_class *c, struct hard_slab *s)
{
	s->listed = false;
	if (s->prev != NULL)
		s->prev->next = s->next;
	else
		c->partial = s->next;
	if (s->next != NULL)
		s->next->prev = s->prev;
}

/* Its only word is in the record: the table's would be a page for it. */
static struct hard_slab *slabs_set(unsigned int class, char *start)
{
	struct hard_region *r = &osmem_hard_region;
	struct slabs_class *c = &slabs_classes[class];
	size_t first = (size_t)(start - r->base) >> HARD_UNIT_SHIFT;
	struct hard_slab *s = &r->records[first];
	size_t i;

	s->start = start;
	s->size = c->size;
	s->magic = (uint32_t)((UINT64_C(1) << 32) / c->size + 1);
	s->slots = c->slots;
	s->units = c->units;
	s->class = (uint8_t)class;
	s->words = c->slots == 1 ? &s->only :
				   r->words + first * (HARD_UNIT / 16);
	for (i = 0; i < c->units; i++)
		atomic_store_explicit(&s[i].head, s, memory_order_release);
	slabs_link(c, s);
	return s;
}

static struct hard_slab *slabs_new(unsigned int class)
{
	char *start;

	osmem_lock(&slabs_all.place);
	start = slabs_place(&slabs_classes[class]);
	osmem_unlock(&slabs_all.place);
	return start != NULL ? slabs_set(class, start) : NULL;
}

/* --- slots --- */

static uint32_t slabs_carved(const struct hard_slab *s)
{
	return atomic_load_explicit(&s->carved, memory_order_relaxed);
}

static size_t slabs_read(atomic_size_t *count)
{
	return atomic_load_explicit(count, memory_order_relaxed);
}

/* A slab's memory has gone back, or is wanted after all. */
static void slabs_learn(size_t bytes, bool regretted)
{
	size_t allowance = slabs_read(&slabs_count.allowance);

	if (regretted && allowance < SLABS_ALLOWANCE_MOST)
		allowance += bytes;
	else if (!regretted && allowance > SLABS_ALLOWANCE_LEAST + bytes / 2)
		allowance -= bytes / 2;
	atomic_store_explicit(&slabs_count.allowance, allowance,
			      memory_order_relaxed);
}

static void slabs_set_state(struct hard_slab *s, enum slabs_state state)
{
	size_t bytes = (size_t)s->slots * s->size;

	if (s->state == state)
		return;
	if (s->state == SLABS_EMPTY)
		atomic_fetch_sub_explicit(&slabs_count.idle, bytes,
					  memory_order_relaxed);
	if (state == SLABS_EMPTY)
		atomic_fetch_add_explicit(&slabs_count.idle, bytes,
					  memory_order_relaxed);
	if (state == SLABS_CLEAN || s->state == SLABS_CLEAN)
		slabs_learn(bytes, s->state == SLABS_CLEAN);
	s->state = (uint8_t)state;
}

static struct hard_entry slabs_entry(const struct hard_slab *s, uint32_t index)
{
	return (struct hard_entry){ s->start + (size_t)index * s->size,
				    &s->words[index] };
}

/* Free slots by the bitmap, from a word on that is left to chance. */
static uint32_t slabs_pick(struct hard_slab *s, struct hard_entry *entries,
			   uint32_t most, struct hard_random *r)
{
	uint32_t words = (s->slots + 63) / 64;
	uint32_t word = hard_draw(r, words);
	uint32_t count = 0;
	uint32_t i;

	for (i = 0; i < words && s->free != 0 && count < most; i++) {
		for (; s->bits[word] != 0 && count < most; s->free--) {
			uint32_t bit = (uint32_t)__builtin_ctzll(s->bits[word]);

			s->bits[word] &= s->bits[word] - 1;
			entries[count++] = slabs_entry(s, word * 64 + bit);
		}
		word = word + 1 < words ? word + 1 : 0;
	}
	return count;
}

static uint32_t slabs_carve(struct hard_slab *s, struct hard_entry *entries,
			    uint32_t most)
{
	uint32_t carved = slabs_carved(s);
	uint32_t count = 0;

	while (count < most && carved < s->slots) {
		/* To read its page first would be a page fault more. */
		atomic_store_explicit(&s->words[carved], 0,
				      memory_order_relaxed);
		entries[count++] = slabs_entry(s, carved++);
	}
	atomic_store_explicit(&s->carved, carved, memory_order_relaxed);
	return count;
}

uint32_t osmem_hard_slabs_take(unsigned int class, struct hard_entry *entries,
			       uint32_t most, struct hard_random *r)
{
	struct slabs_class *c = &slabs_classes[class];
	struct hard_slab *s;
	uint32_t count = 0;

	osmem_lock(&c->lock);
	while (count < most) {
		s = c->partial != NULL ? c->partial :
		    count == 0	       ? slabs_new(class) :
					 NULL;
		if (s == NULL)
			break;
		slabs_set_state(s, SLABS_USED);
		count += slabs_pick(s, entries + count, most - count, r);
		count += slabs_carve(s, entries + count, most - count);
		if (s->free == 0 && slabs_carved(s) == s->slots)
			slabs_unlink(c, s);
	}
	osmem_unlock(&c->lock);
	return count;
}

/*
 * The empty slab's memory goes back. Its slots read as zero as before, and
 * need not be read to know it.
 */
static bool slabs_purge(struct hard_slab *s)
{
	size_t size = osmem_up((size_t)s->slots * s->size,
			       osmem_sys_page_size());
	uint32_t i;

	if (KEEP(osmem_sys_purge(s->start, size), "madvise", size) != 0)
		return false;
	for (i = 0; i < slabs_carved(s); i++)
		atomic_store_explicit(&s->words[i], 0, memory_order_relaxed);
	slabs_set_state(s, SLABS_CLEAN);
	return true;
}

static void slabs_put(struct slabs_class *c, void *slot)
{
	struct hard_slab *s = hard_slab_of(slot);
	uint32_t index;

	hard_index(s, slot, &index);
	s->bits[index / 64] |= UINT64_C(1) << index % 64;
	s->free++;
	if (!s->listed)
		slabs_link(c, s);
	if (s->free != slabs_carved(s))
		return;
	if (s->class == HARD_NOTHING)
		return;
	slabs_set_state(s, SLABS_EMPTY);
	if (slabs_read(&slabs_count.idle) > slabs_read(&slabs_count.allowance))
		slabs_purge(s);
}

void osmem_hard_slabs_give(unsigned int class, const struct hard_entry *entries,
			   uint32_t count)
{
	struct slabs_class *c = &slabs_classes[class];
	uint32_t i;

	osmem_lock(&c->lock);
	for (i = 0; i < count; i++)
		slabs_put(c, entries[i].slot);
	osmem_unlock(&c->lock);
}

bool osmem_hard_slabs_trim(void)
{
	bool any = false;
	unsigned int class;

	for (class = 0; class < HARD_NOTHING; class++) {
		struct slabs_class *c = &slabs_classes[class];
		struct hard_slab *s;

		osmem_lock(&c->lock);
		for (s = c->partial; s != NULL; s = s->next)
			if (s->state == SLABS_EMPTY)
				any |= slabs_purge(s);
		osmem_unlock(&c->lock);
	}
	return any;
}

bool osmem_hard_slabs_release_spare(void)
{
	bool any;

	osmem_lock(&slabs_all.place);
	any = slabs_shrink(0);
	osmem_unlock(&slabs_all.place);
	return any;
}

/* --- fork --- */

void osmem_hard_slabs_before_fork(void)
{
	unsigned int class;

	for (class = 0; class < HARD_CLASSES; class++)
		osmem_lock_before_fork(&slabs_classes[class].lock);
	osmem_lock_before_fork(&slabs_all.place);
}

/* Parent and child go on with different numbers. */
void osmem_hard_slabs_after_fork(bool child)
{
	unsigned int class;

	if (child)
		osmem_hard_seed(&slabs_all.random);
	osmem_lock_after_fork(&slabs_all.place);
	for (class = HARD_CLASSES; class-- > 0;)
		osmem_lock_after_fork(&slabs_classes[class].lock);
}
