/* SPDX-License-Identifier: MIT */
/*
 * prove_remote.c - slots that other threads free, in all orders of three
 * threads, which free, post, drain, harvest, rest, end, adopt from pools and
 * use structures again. It includes the files themselves; only locks and the
 * region are simpler here (below.h).
 *
 * In the end each slot that was freed is in one list, the others in none, the
 * counts are right, the slab has one holder and is on its stack just when its
 * posted bit says so; what waits is counted; and when nothing is in use any
 * more, nothing waits, and a slab of several units is given back.
 *
 * fault: thread_remote.c s|osmem_thread_post(s);|;|
 * fault: thread_remote.c s|if (osmem_slab_owner(s) != t)|if (0)|
 * fault: thread_remote.c s|s->posted_next = top;|s->posted_next = NULL;|
 * fault: thread_remote.c s|while (top != &osmem_thread_closed)|while (1)|
 * fault: thread_remote.c s|if (atomic_compare_exchange_weak|if (store_always|
 * fault: thread_slabs.c s|if (osmem_slab_is_ripe(s))|if (0)|
 * fault: thread_slabs.c s|relaxed) == 0;|relaxed) < 2;|
 * fault: thread_remote.c s|memory_order_release,|memory_order_relaxed,|
 * fault: thread_remote.c s|memory_order_acquire)|memory_order_relaxed)|
 * fault: thread_remote.c s|~(osmem_slab_word)OSMEM_SLAB_POSTED|-1L|
 * fault: thread_remote.c s|= s->posted_next;|= NULL;|
 * fault: thread_remote.c s|if (s == NULL) {|if (true) {|
 * fault: slab_slots.c s|posted ? 0 : old & OSMEM_SLAB_POSTED|0|
 * fault: slab_state.h s/(rest + OSMEM_SLAB_ONE)/rest/
 * fault: slab_state.h s/<< OSMEM_SLAB_LINK . link/| link/
 * fault: slab_slots.c s/add_waiting(-slab_waits/add_waiting(slab_waits/
 * fault: thread_remote.c s|if (back)|if (0)|
 * fault: slab_remote.h s|(!atomic_compare_exchange_weak|(!store_always|
 * fault: slab_remote.h s|memory_order_acq_rel|memory_order_relaxed|
 * fault: slab_remote.h s|memory_order_acq_rel|memory_order_release|
 * fault: slab_remote.h s|memory_order_acq_rel|memory_order_acquire|
 * fault: slab_slots.c s|(!atomic_compare_exchange_weak|(!store_always|
 * fault: slab_slots.c s|memory_order_acq_rel|memory_order_relaxed|
 * fault: slab_slots.c s|memory_order_acq_rel|memory_order_release|
 * fault: slab_slots.c s|used - (count > most ? count - most : 0)|used|
 * fault: slab_slots.c s|- (count > most ? count - most : 0)|- count|
 * fault: slab_slots.c s|slot.0. = 0;|;|
 * fault: slab.h s|osmem_slab_waiting(s) >= |osmem_slab_waiting(s) > |
 * fault: slab_slots.c s/	osmem_slab_collect(s, false, NULL, 0);/	;/
 * fault: thread_slabs.c s/return count < most ? count : most/return count/
 * all: slab_remote.h s|count . SLAB_UNSEEN >= part|count >= unseen; 0|
 * all: thread_remote.c s/= 0; class < OSMEM_CLASSES/= only; class == only/
 * all: thread_life.c s/= 0; class < OSMEM_CLASSES/= only; class == only/
 * all: thread_slabs.c s/= 0; class < OSMEM_CLASSES/= only; class == only/
 * threads: interleave.c
 * cbmc: none
 */
#include "proof.h"

#include "below.h"

#include <pthread.h>

/* For faults: an exchange that does not compare. */
#define store_always_explicit(place, old, value, order, failed) \
	(atomic_store_explicit(place, value, order), true)

#define pthread_setspecific(key, value) ((void)(key), (void)(value), 0)

/* Slots that others free before the owner is told, in place of a share. */
static uint32_t unseen;

/* The only class that is used, and looked at. */
static unsigned int only;

#include "slab_remote.h"

#include "slab.c"
#include "slab_slots.c"
#include "slab_tear.c"
#include "thread_slabs.c"
#include "thread_remote.c"

#include "thread_life.c"

#include <stdio.h>

enum { SLOTS = 3, SLABS = 2, THREADS = 2, UNITS = 64 };

static struct osmem_thread owners[THREADS];
static _Alignas(65536) char memory[UNITS * OSMEM_UNIT];
static _Alignas(OSMEM_RECORD) char records[UNITS * OSMEM_RECORD];
static uintptr_t heads[UNITS];
static _Alignas(8) char maps[UNITS * OSMEM_MAP];
static uint32_t in_use;
static uint32_t slab_count;
static size_t units_taken;
static struct osmem_slab *slabs[SLABS];
static uintptr_t *slots[SLOTS]; /* of the slabs in turn */

/* What the threads have done; under no lock, each its own. */
static struct {
	bool freed[SLOTS];
	bool given[SLABS];
	bool adopted; /* to take slots from */
} done;

/* --- what all this stands on --- */

struct osmem_region osmem_region;
uint64_t osmem_block_key[OSMEM_KEYS];

struct osmem_region_totals osmem_region_totals(void)
{
	return (struct osmem_region_totals){ .reserved = sizeof(memory) };
}

size_t osmem_sys_page_size(void)
{
	return 4096;
}

size_t osmem_region_longest_dirty(void)
{
	return 0;
}

bool osmem_region_take(size_t units, size_t *first, bool *dirty)
{
	*first = units_taken;
	*dirty = false;
	units_taken += units;
	return true;
}

/* By osmem_slab_delete. */
void osmem_region_give(size_t first, size_t units)
{
	uint32_t i = slabs[0] == osmem_slab_record(first) ? 0 : 1;

	(void)units;
	proof_claim(!done.given[i] && slabs[i] == osmem_slab_record(first));
	done.given[i] = true;
	proof_claim(atomic_load(&slabs[i]->remote) == 0);
	for (; i < in_use; i += slab_count)
		proof_claim(done.freed[i]);
}

/* --- what threads do --- */

static void release(uint32_t i)
{
	done.freed[i] = true;
	proof_claim(osmem_thread_release_remote(slabs[i % slab_count],
						slots[i]));
}

static void release_first(void)
{
	release(0);
}

static void release_second(void)
{
	release(1);
}

static void release_third(void)
{
	release(2);
}

static void release_two(void)
{
	release(0);
	release(1);
}

/* As thread.c's thread_put() does it. */
static void owner_puts(void)
{
	struct osmem_thread *t = &owners[0];
	struct osmem_slab *slab = slabs[0];
	void *slot = slots[0];
	uint32_t used;
	size_t idle;

	osmem_thread_enter(t);
	done.freed[0] = true;
	osmem_slab_set_mark(slot);
	used = osmem_slab_in_use(slab);
	idle = osmem_slab_idle(slab);
	proof_claim(osmem_slab_put(slab, &slot, 1) == 1);
	osmem_slab_catch_up(slab);
	osmem_thread_account(t, slab, used, idle);
	osmem_thread_settle_put(t, slab);
	osmem_thread_leave(t);
}

static void owner_drains(void)
{
	osmem_thread_enter(&owners[0]);
	osmem_thread_drain(&owners[0], only, false, NULL, 0);
	osmem_thread_leave(&owners[0]);
}

static uint32_t number(const uintptr_t *slot)
{
	uint32_t i = 0;

	while (i < in_use && slots[i] != slot)
		i++;
	return i;
}

/* As thread.c does for a bin that has room for one slot. */
static void owner_takes(void)
{
	void *slot[2] = { NULL, NULL };
	uint32_t taken;

	osmem_thread_enter(&owners[0]);
	taken = osmem_thread_drain(&owners[0], only, false, slot + 1, 1);
	proof_claim(taken <= 1 && slot[0] == NULL && !slot[1] == !taken);
	if (taken != 0) {
		uint32_t i = number(slot[1]);

		proof_claim(i < in_use && done.freed[i] && *slots[i] == 0);
		done.freed[i] = false;
		slots[i][1] = 0;
	}
	osmem_thread_leave(&owners[0]);
}

static void end(struct osmem_thread *t)
{
	osmem_thread_enter(t);
	thread_dismantle(t);
	osmem_thread_leave(t);
}

static void owner_ends(void)
{
	end(&owners[0]);
}

/* As thread.c does when a bin and the thread's own slabs are empty. */
static void adopt(struct osmem_thread *t)
{
	struct osmem_slab *s;

	osmem_thread_enter(t);
	osmem_thread_drain(t, only, false, NULL, 0);
	s = osmem_thread_adopt(t, only);
	if (s != NULL) {
		osmem_thread_own(t, s);
		done.adopted = true;
	}
	osmem_thread_leave(t);
}

static void other_adopts(void)
{
	adopt(&owners[1]);
}

/* A thread that begins, with the structure of the one that has ended. */
static void new_adopts(void)
{
	osmem_thread_self = osmem_thread_mine = &thread_none;
	osmem_lock(&osmem_core_lock);
	if (threads.unused == NULL)
		threads.unused = &owners[1];
	osmem_unlock(&osmem_core_lock);
	adopt(osmem_thread_attach());
}

static void other_adopts_and_ends(void)
{
	adopt(&owners[1]);
	end(&owners[1]);
}

static void owner_rests(void)
{
	osmem_thread_enter(&owners[0]);
	proof_claim(thread_rest(&owners[0]));
	osmem_thread_leave(&owners[0]);
}

static void owner_rests_and_ends(void)
{
	owner_rests();
	thread_end_rest();
}

/* A thread that begins where one has stopped, if it has. */
static void new_goes_on(void)
{
	struct osmem_thread *t;

	osmem_lock(&osmem_core_lock);
	t = thread_take_resting(false);
	osmem_unlock(&osmem_core_lock);
	if (t != NULL)
		owner_drains();
}

/* --- before and after --- */

/* Of the other classes nothing is used. */
static void share_owner(struct osmem_thread *t)
{
	interleave_share(&t->lock, sizeof(t->lock));
	interleave_share(&t->lists[only], sizeof(t->lists[only]));
	interleave_share(&t->lists[OSMEM_THREAD_FULL],
			 2 * sizeof(t->lists[only]));
	interleave_share(&t->used[only], sizeof(t->used[only]));
	interleave_share(&t->posted[only], sizeof(t->posted[only]));
	interleave_share(&t->taken[only], sizeof(t->taken[only]));
	interleave_share(&t->idle, sizeof(t->idle));
	interleave_share(&t->told, sizeof(t->told));
	interleave_share(&t->next,
			 sizeof(*t) - offsetof(struct osmem_thread, next));
}

static void share(void)
{
	uint32_t i;

	interleave_share(&done, sizeof(done));
	interleave_share(&below_waiting, sizeof(below_waiting));
	interleave_share(&threads, sizeof(threads));
	interleave_share(&osmem_core_lock, sizeof(osmem_core_lock));
	interleave_share(&thread_pools[only], sizeof(thread_pools[only]));
	for (i = 0; i < slab_count; i++) {
		interleave_share(slabs[i], sizeof(*slabs[i]));
		interleave_share(slabs[i]->map, sizeof(*slabs[i]->map));
	}
	for (i = 0; i < THREADS; i++)
		share_owner(&owners[i]);
	for (i = 0; i < in_use; i++)
		interleave_share(slots[i], 2 * sizeof(uintptr_t));
}

static void prepare(size_t size, uint32_t count, uint32_t of)
{
	void *slot;
	uint32_t i;

	memset(owners, 0, sizeof(owners));
	memset(records, 0, sizeof(records));
	memset(&threads, 0, sizeof(threads));
	memset(thread_pools, 0, sizeof(thread_pools));
	memset(&done, 0, sizeof(done));
	atomic_store(&below_waiting, 0);
	osmem_region.base = memory;
	osmem_region.records = records;
	osmem_region.heads = heads;
	osmem_region.maps = maps;
	atomic_store(&osmem_region.limit, sizeof(memory));
	only = osmem_class_of(size);
	in_use = count;
	slab_count = of;
	units_taken = 0;
	for (i = 0; i < of; i++)
		slabs[i] = osmem_slab_new(only, &owners[0]);
	for (i = 0; i < count; i++) {
		proof_claim(osmem_slab_take(slabs[i % of], &slot, 1) == 1);
		slots[i] = slot;
		slots[i][1] = 0;
	}
	for (i = 0; i < of; i++)
		osmem_thread_own(&owners[0], slabs[i]);
}

/* Marks a slot that is free, which is found once. */
static void mark(uintptr_t *slot, bool *found)
{
	uint32_t i = number(slot);

	proof_claim(i == in_use || !found[i]);
	if (i < in_use)
		found[i] = true;
}

/*
 * Marks the slots of a remote list; how many there are. Each names as many of
 * those after it as there is room for.
 */
static uint32_t mark_list(struct osmem_slab *slab, osmem_slab_word first,
			  bool *found)
{
	struct slab_links links = slab_links(slab);
	osmem_slab_word next;
	uint32_t link;
	uint32_t n = 0;

	for (; (link = slab_link(first, 0)) != 0; n++) {
		uintptr_t *slot = slab_slot(slab, link - 1);

		mark(slot, found);
		next = slab_next(&links, slot);
		proof_claim(OSMEM_SLAB_LINKS < 3 ||
			    (slab_link(first, 1) == slab_link(next, 0) &&
			     slab_link(first, 2) == slab_link(next, 1)));
		first = next;
	}
	proof_claim(first == 0);
	return n;
}

/* How many of its slots are in use. */
static uint32_t check_slots(uint32_t which)
{
	struct osmem_slab *slab = slabs[which];
	osmem_slab_word remote = atomic_load(&slab->remote);
	bool found[SLOTS] = { false };
	uint32_t left = 0;
	uint32_t n;
	uint32_t i;

	proof_claim(slab->ready <= 1 && slab->ready == (slab->map[0] != 0));
	for (i = 0; i < 64; i++)
		if (slab->map[0] >> i & 1)
			mark(slab_slot(slab, i), found);
	n = mark_list(slab, slab_links_in(remote), found);
	proof_claim(n == osmem_slab_count(remote));
	for (i = which; i < in_use; i += slab_count) {
		proof_claim(found[i] == done.freed[i]);
		left += !done.freed[i];
	}
	proof_claim(osmem_slab_in_use(slab) == left + n);
	proof_claim(left != 0 || n == 0);
	return left;
}

static int times(const struct osmem_slab *s, const struct osmem_slab *slab)
{
	int n = 0;

	for (; s != NULL; s = s->next)
		n += s == slab;
	return n;
}

static int times_posted(struct osmem_thread *t, const struct osmem_slab *slab)
{
	struct osmem_slab *s = atomic_load(&t->posted[only]);
	int n = 0;

	for (; s != NULL && s != &osmem_thread_closed; s = s->posted_next)
		n += s == slab;
	for (s = t->taken[only]; s != NULL; s = s->posted_next)
		n += s == slab;
	return n;
}

static void check_holder(struct osmem_slab *slab)
{
	int holders = times(thread_pools[only].first, slab);
	bool pooled = holders != 0;
	int posted = 0;
	int i;

	for (i = 0; i < THREADS; i++) {
		struct osmem_thread *t = &owners[i];
		int n = times(t->lists[only], slab) +
			times(t->lists[OSMEM_THREAD_FULL], slab) +
			times(t->lists[OSMEM_THREAD_SPENT], slab);

		proof_claim(n == 0 || osmem_slab_owner(slab) == t);
		holders += n;
		posted += times_posted(t, slab);
	}
	proof_claim(holders == 1);
	proof_claim(pooled == (osmem_slab_owner(slab) == NULL));
	proof_claim(atomic_load(&slab->pooled) == (pooled ? only + 1 : 0));
	proof_claim(posted == (int)(atomic_load(&slab->remote) &
				    OSMEM_SLAB_POSTED));
}

static void check_owner(struct osmem_thread *t)
{
	size_t used = 0;
	uint32_t i;

	for (i = 0; i < slab_count; i++)
		if (!done.given[i] && osmem_slab_owner(slabs[i]) == t)
			used += osmem_slab_in_use(slabs[i]);
	proof_claim(t->used[only] == used);
}

static void finish(void)
{
	size_t waiting = 0;
	uint32_t left;
	uint32_t i;

	for (i = 0; i < THREADS; i++)
		check_owner(&owners[i]);
	for (i = 0; i < slab_count; i++) {
		if (done.given[i]) {
			proof_claim(times_posted(&owners[0], slabs[i]) +
					    times_posted(&owners[1],
							 slabs[i]) ==
				    0);
			continue;
		}
		left = check_slots(i);
		check_holder(slabs[i]);
		waiting += osmem_slab_waits(slabs[i]);
		/* In a pool nobody would come to look. */
		proof_claim(left != 0 || osmem_slab_owner(slabs[i]) != NULL);
		/* One of a single unit may stay with its owner. */
		proof_claim(left != 0 || done.adopted || slabs[i]->units == 1);
	}
	proof_claim(atomic_load(&below_waiting) == waiting);
}

/* --- who does what at the same time --- */

static const struct {
	const char *name;
	uint32_t slots;
	uint32_t slabs;
	size_t quick; /* the largest size of a quick run */
	void (*thread[3])(void);
} cases[] = {
	{ "two free, the owner drains", 3, 1, 16384,
	  { owner_drains, release_first, release_second } },
	{ "two free, the owner takes", 3, 1, 16384,
	  { owner_takes, release_first, release_second } },
	{ "two free of two slabs, the owner drains", 3, 2, 16384,
	  { owner_drains, release_first, release_second } },
	{ "two free of two slabs, the owner takes", 3, 2, 16384,
	  { owner_takes, release_first, release_second } },
	{ "two free of two slabs, the owner ends", 3, 2, 0,
	  { owner_ends, release_first, release_second } },
	{ "one frees, the owner puts the rest", 2, 1, 16384,
	  { owner_puts, release_second, NULL } },
	{ "two free, the owner puts the rest", 3, 1, 16,
	  { owner_puts, release_second, release_third } },
	{ "two free all, the owner sleeps", 3, 1, 16384,
	  { release_two, release_third, NULL } },
	{ "two free one each, the owner sleeps", 2, 1, 16384,
	  { release_first, release_second, NULL } },
	{ "one frees all, the owner ends", 1, 1, 16384,
	  { owner_ends, release_first, NULL } },
	{ "two free all, the owner has ended", 2, 1, 16384,
	  { release_first, release_second, NULL } },
	{ "three free all", 3, 1, 0,
	  { release_first, release_second, release_third } },
	{ "two free all, the owner drains", 2, 1, 16,
	  { owner_drains, release_first, release_second } },
	{ "two free all, the owner ends", 2, 1, 0,
	  { owner_ends, release_first, release_second } },
	{ "two free some, the owner ends", 3, 1, 0,
	  { owner_ends, release_first, release_second } },
	{ "one frees all, the owner ends, one adopts", 2, 1, 0,
	  { owner_ends, release_two, other_adopts } },
	{ "one frees, the owner ends, one adopts", 2, 1, 16384,
	  { owner_ends, release_first, other_adopts } },
	{ "one frees, the owner ends, one adopts with its structure", 3, 1, 16,
	  { owner_ends, release_two, new_adopts } },
	{ "one frees all, the owner ends, one adopts and ends", 2, 1, 0,
	  { owner_ends, release_two, other_adopts_and_ends } },
	{ "one frees all, the owner rests, one goes on", 2, 1, 16384,
	  { owner_rests, release_two, new_goes_on } },
	{ "one frees all, the owner rests, all that rests ends", 2, 1, 16384,
	  { owner_rests, release_two, thread_end_rest } },
	{ "two free all, the owner rests and ends", 2, 1, 0,
	  { owner_rests_and_ends, release_first, release_second } },
};

static void prove_case(size_t i, size_t size, uint32_t told_after)
{
	struct interleave what = { .finish = finish };

	memcpy(what.thread, cases[i].thread, sizeof(what.thread));
	unseen = told_after;
	prepare(size, cases[i].slots, cases[i].slabs);
	if (strstr(cases[i].name, "has ended") != NULL)
		owner_ends();
	interleave_share(NULL, 0);
	share();
	printf("%s, %zu bytes, told after %u: ", cases[i].name, size,
	       told_after);
	fflush(stdout);
	printf("%lu states\n", interleave_run(&what));
}

/*
 * Slots of 16 bytes, and of 16 KiB, whose slabs do not stay with a thread. The
 * owner is told of the first slot, or of the second.
 */
void proof(void)
{
	size_t i;
	size_t size;

	for (i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
		for (size = 16; size <= 16384; size *= 1024)
			if (!PROOF_QUICK || size <= cases[i].quick) {
				prove_case(i, size, 0);
				prove_case(i, size, 2);
			}
}
