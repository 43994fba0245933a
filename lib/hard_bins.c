/* SPDX-License-Identifier: MIT */
/*
 * hard_bins.c - the hardened allocator's threads, and the slots they have.
 *
 * A thread has, for each class, a bin of ready slots, and a quarantine in
 * front of it, for the slots that it has freed, whoever has allocated them.
 * Chance decides in which order slots leave the quarantine, and a slab. No
 * lock is taken but to fill and empty bins. Structures of threads are used
 * again and never unmapped.
 */
#include "hard_state.h"

#include "die.h"
#include "sys.h"

#include <pthread.h>

enum {
	BINS_PART = 256,      /* freed slots that wait together, at most */
	BINS_PART_BYTES = 16384, /* and their bytes, but two slots at least */
	BINS_FILL_BYTES = 4096,
	/* Neighbours in time are to be near each other. */
	BINS_CHANCE = 1024,
	/* Bytes that are cleared as a whole without a limit, and how often. */
	BINS_GRANT = 1 << 20,
	BINS_GRANTS = 32,
	/* What a large slot's free earns, if it is not cleared as a whole. */
	BINS_EARNED = 256,
	/* Larger ones cost more: to clear them may take memory for them. */
	BINS_FAR = 16384,
	BINS_FAR_FACTOR = 4
};

OSMEM_VAR_DEFINED __thread struct hard_thread *osmem_hard_self
	__attribute__((tls_model("initial-exec")));

/*
 * Under the lock; slots are set before osmem_hard_used is. grants: what
 * threads have not fetched of these; relaxed.
 */
static struct {
	struct osmem_lock lock;
	struct hard_thread *unused;
	pthread_key_t key;
	atomic_int grants;
	bool tried;
} bins_all = { .grants = BINS_GRANTS };

/* --- threads --- */

static uint32_t bins_slots(size_t bytes, size_t slot, uint32_t least)
{
	size_t slots = bytes / slot;

	if (slots < least)
		slots = least;
	return slots < BINS_PART ? (uint32_t)slots : BINS_PART;
}

static uint32_t bins_slot_size(unsigned int class)
{
	return class == HARD_NOTHING ? 16 : (uint32_t)osmem_class_size(class);
}

/* Sets what does not change, when t is known. The entries behind the bins. */
static size_t bins_make(struct hard_thread *t)
{
	struct hard_entry *e = t == NULL ? NULL : (struct hard_entry *)(t + 1);
	size_t count = 0;
	unsigned int class;

	for (class = 0; class < HARD_CLASSES; class++) {
		size_t slot = bins_slot_size(class);
		uint32_t part = bins_slots(BINS_PART_BYTES, slot, 2);

		if (t != NULL)
			t->bins[class] = (struct hard_bin){
				.ready = e + count,
				.freed = e + count + 2 * part,
				.aged = e + count + 3 * part,
				.part = part,
				.slot = (uint32_t)slot,
				.fill = bins_slots(BINS_FILL_BYTES, slot, 1),
			};
		count += 4 * part;
	}
	return count * sizeof(*e);
}

/* A page without access on either side. */
static struct hard_thread *bins_new_thread(void)
{
	size_t page = osmem_sys_page_size();
	size_t size = osmem_up(sizeof(struct hard_thread) + bins_make(NULL),
			       page);
	void *start = NULL;
	struct hard_thread *t;

	if (DIE(osmem_sys_reserve(size + 2 * page, &start), "mmap", size) != 0)
		return NULL;
	t = (struct hard_thread *)(void *)((char *)start + page);
	if (DIE(osmem_sys_commit(t, size), "mprotect", size) == 0) {
		osmem_hard_seed(&t->random);
		bins_make(t);
		return t;
	}
	KEEP(osmem_sys_unmap(start, size + 2 * page), "munmap", size);
	return NULL;
}

OSMEM_COLD struct hard_thread *osmem_hard_attach(void)
{
	struct hard_thread *t;

	osmem_lock(&bins_all.lock);
	t = bins_all.unused;
	if (t != NULL)
		bins_all.unused = t->next;
	osmem_unlock(&bins_all.lock);
	if (t == NULL)
		t = bins_new_thread();
	if (t == NULL)
		return NULL;
	osmem_hard_self = t;
	/* May allocate, and finds the bins in place. */
	pthread_setspecific(bins_all.key, t);
	return t;
}

static void bins_give(unsigned int class, const struct hard_entry *entries,
		      uint32_t *count)
{
	if (*count != 0)
		osmem_hard_slabs_give(class, entries, *count);
	*count = 0;
}

/*
 * By the destructor of the key. Others may run after it and allocate: the
 * thread gets a new structure then, and its destructor runs again.
 */
void osmem_hard_exit(void *bins)
{
	struct hard_thread *t = bins;
	unsigned int class;

	osmem_hard_self = NULL;
	for (class = 0; class < HARD_CLASSES; class++) {
		struct hard_bin *bin = &t->bins[class];

		bins_give(class, bin->ready, &bin->count);
		bins_give(class, bin->freed, &bin->count_freed);
		bins_give(class, bin->aged, &bin->count_aged);
	}
	osmem_lock(&bins_all.lock);
	t->next = bins_all.unused;
	bins_all.unused = t;
	osmem_unlock(&bins_all.lock);
}

static void bins_set_classes(void)
{
	size_t i;

	for (i = 0; i < sizeof(osmem_hard_classes); i++)
		osmem_hard_classes[i] =
			(uint8_t)osmem_class_of(16 * (i + 1));
}

bool osmem_hard_open(void (*at_exit)(void *bins))
{
	osmem_lock(&bins_all.lock);
	if (!bins_all.tried) {
		bins_all.tried = true;
		bins_set_classes();
		if (pthread_key_create(&bins_all.key, at_exit) == 0 &&
		    osmem_hard_slabs_open()) {
			osmem_hard_maps_seed();
			atomic_store_explicit(&osmem_hard_used, true,
					      memory_order_release);
		} else {
			atomic_store_explicit(&osmem_hard_region.refused, true,
					      memory_order_relaxed);
		}
	}
	osmem_unlock(&bins_all.lock);
	return osmem_hard_is_used();
}

/* --- slots --- */

static void bins_swap(struct hard_entry *e, uint32_t i, uint32_t k)
{
	struct hard_entry other = e[i];

	e[i] = e[k];
	e[k] = other;
}

/* Eight bits of a draw for each are as good as any for so few. */
static void bins_shuffle(struct hard_random *r, struct hard_entry *e,
			 uint32_t count)
{
	uint32_t bits = 0;

	for (; count > 1; count--) {
		if (bits < 256)
			bits = (UINT32_C(1) << 24) + hard_draw(r, 1 << 24);
		bins_swap(e, count - 1, (bits & 255) * count >> 8);
		bits >>= 8;
	}
}

bool osmem_hard_bin_fill(struct hard_thread *t, unsigned int class)
{
	struct hard_bin *bin = &t->bins[class];
	uint32_t near = bins_slots(BINS_CHANCE, bin->slot, 1);
	uint32_t i;

	bin->count = osmem_hard_slabs_take(class, bin->ready, bin->fill,
					   &t->random);
	for (i = 0; near > 1 && i < bin->count; i += near)
		bins_shuffle(&t->random, bin->ready + i,
			     bin->count - i < near ? bin->count - i : near);
	return bin->count != 0;
}

void osmem_hard_bin_age(struct hard_thread *t, unsigned int class)
{
	struct hard_bin *bin = &t->bins[class];
	struct hard_entry *freed = bin->freed;

	if (bin->count_aged != 0 && bin->count <= bin->part) {
		memcpy(bin->ready + bin->count, bin->aged,
		       bin->count_aged * sizeof(*freed));
		bin->count += bin->count_aged;
		bin->count_aged = 0;
	}
	bins_give(class, bin->aged, &bin->count_aged);
	bins_shuffle(&t->random, freed, bin->count_freed);
	bin->freed = bin->aged;
	bin->aged = freed;
	bin->count_aged = bin->count_freed;
	bin->count_freed = 0;
}

static int64_t bins_fetch(void)
{
	if (atomic_load_explicit(&bins_all.grants, memory_order_relaxed) <= 0)
		return 0;
	atomic_fetch_sub_explicit(&bins_all.grants, 1, memory_order_relaxed);
	return BINS_GRANT;
}

/* Of what is earned it pays a random multiple, so that none can be foretold. */
bool osmem_hard_affords(struct hard_thread *t, size_t size)
{
	if (osmem_option(OSMEM_OPT_HARDEN) > 1)
		return true;
	if (unlikely(t == NULL))
		return false;
	if (t->allowance <= 0)
		t->allowance += bins_fetch();
	if (t->allowance <= 0) {
		t->allowance += BINS_EARNED;
		return false;
	}
	if (size > BINS_FAR && t->allowance <= BINS_EARNED)
		size *= BINS_FAR_FACTOR;
	t->allowance -= hard_draw(&t->random, 2 * (uint32_t)size);
	return true;
}

void osmem_hard_bins_trim(void)
{
	struct hard_thread *t = osmem_hard_self;
	unsigned int class;

	for (class = 0; t != NULL && class < HARD_CLASSES; class++)
		bins_give(class, t->bins[class].ready, &t->bins[class].count);
}

/* --- fork --- */

/* Another thread may be opening it, so the lock comes first. */
void osmem_hard_before_fork(void)
{
	osmem_lock_before_fork(&bins_all.lock);
	if (osmem_hard_is_used())
		osmem_hard_slabs_before_fork();
}

/* Parent and child go on with different numbers, and other slots. */
static void bins_part_ways(struct hard_thread *t)
{
	unsigned int class;

	osmem_hard_seed(&t->random);
	for (class = 0; class < HARD_CLASSES; class++)
		bins_shuffle(&t->random, t->bins[class].ready,
			     t->bins[class].count);
}

/* What other threads had in their bins stays there in the child, unused. */
void osmem_hard_after_fork(bool child)
{
	bool used = osmem_hard_is_used();

	if (used)
		osmem_hard_slabs_after_fork(child);
	osmem_lock_after_fork(&bins_all.lock);
	if (used && child)
		osmem_hard_maps_seed();
	if (child && osmem_hard_self != NULL)
		bins_part_ways(osmem_hard_self);
}
