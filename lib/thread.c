/* SPDX-License-Identifier: MIT */
/*
 * thread.c - bins: refilling, flushing, and what they may hold.
 *
 * A bin is its thread's alone. Must never be called for another's, but of who
 * has ended.
 */
#include "thread_state.h"

#include "check.h"
#include "lock.h"
#include "report.h"
#include "sys.h"

#include <string.h>

/* Bins in use, of all threads, and bytes promised to large ones. */
static struct {
	atomic_size_t bins; /* relaxed, as large: measures only */
	atomic_size_t large;
} thread_bins;

/*
 * How many slots a bin holds at first, and at most; and where its place for
 * the one and for the other is, in words behind a thread's structure: those for
 * few slots are together, and take no pages for what bins may hold later.
 */
static struct thread_rule {
	uint32_t size; /* of a slot */
	uint16_t first;
	uint16_t most;
	uint32_t near;
	uint32_t far;
} thread_rules[OSMEM_CLASSES];

enum {
	/* A bin starts small and grows while it proves too small. */
	THREAD_BIN_FIRST = 1024,
	THREAD_BIN_GROWTH = 4,
	THREAD_BIN_MOST = 128 * 1024, /* of large ones 2 or 8 times that */
	THREAD_BIN_TINY = 64, /* of these twice at first */
	/* A bin of a class that is being given up: a share of what is used. */
	THREAD_BIN_SHARE = 16,
	/* What all bins together may pin then, a page for each slot. */
	THREAD_BINS_PIN = 2 << 18,
	/* Slots of which a thread with few could keep all in its bin. */
	THREAD_MIDDLE = 192,
	THREAD_PART = 4, /* of what a thread uses: a good one */
	THREAD_LARGE = 1024,             /* slots of which a few make a page */
	THREAD_LARGEST = 32 * 1024,
	THREAD_LARGE_BYTES = 2048 * 1024, /* of them in all bins, */
	THREAD_LARGE_MOST = 1024 * 1024, /* and in those of one thread, */
	THREAD_LARGE_OWN = 32 * 1024,    /* besides so many of each */
	THREAD_LARGE_SHARE = 16,         /* and a share of what it uses */
	THREAD_LARGE_STEP = 32 * 1024,
	THREAD_LARGE_REFUSED = 8,        /* refills without asking for more */
	THREAD_PLACES = 64 * 1024, /* of bins: for less none are given back */
	/* Of so many bytes or more a quarter is little. */
	THREAD_MUCH = 512 * 1024,
	THREAD_LITTLE = 4
};

static uint16_t thread_at_least_one(size_t count)
{
	return (uint16_t)(count == 0 ? 1 : count);
}

void osmem_thread_make_rules(void)
{
	uint32_t words = OSMEM_THREAD_BELOW;
	struct thread_rule *rule;
	unsigned int class;

	for (class = 0; class < OSMEM_CLASSES; class++) {
		size_t size = osmem_class_size(class);
		size_t first = THREAD_BIN_FIRST;
		size_t most = THREAD_BIN_MOST;

		if (size <= THREAD_BIN_TINY)
			first *= 2;
		else if (size >= THREAD_LARGE)
			most *= size >= THREAD_LARGEST ? 8 : 2;
		rule = &thread_rules[class];
		rule->size = (uint32_t)size;
		rule->first = thread_at_least_one(first / size);
		rule->most = thread_at_least_one(most / size);
		rule->near = words;
		words += rule->first + OSMEM_THREAD_BELOW;
	}
	for (class = 0; class < OSMEM_CLASSES; class++) {
		rule = &thread_rules[class];
		rule->far = words;
		words += rule->most + OSMEM_THREAD_BELOW;
	}
	OSMEM_ASSERT(sizeof(struct osmem_thread) + words * sizeof(void *) <=
		     OSMEM_THREAD_AREA);
}

/* --- bins --- */

/* How many slots of a bin pin no more than its part of what all may pin. */
static ptrdiff_t thread_bin_least(size_t size)
{
	size_t bins =
		atomic_load_explicit(&thread_bins.bins, memory_order_relaxed);

	/* In a fork's child one more may be counted as gone than there were. */
	if ((ptrdiff_t)bins < 0)
		bins = 0;
	if (size < osmem_sys_page_size())
		size = osmem_sys_page_size();
	return (ptrdiff_t)(THREAD_BINS_PIN / size / (bins + 1));
}

void osmem_thread_lend(ptrdiff_t bytes)
{
	atomic_fetch_add_explicit(&thread_bins.large, (size_t)bytes,
				  memory_order_relaxed);
}

/*
 * All bins of large slots together hold so many bytes and no more, those of one
 * thread half of that, but for the first of each thread. It asks for them in
 * steps, and not at all while there are none, or all threads would write to one
 * line all the time.
 */
static bool thread_promise(struct osmem_thread *t, ptrdiff_t bytes)
{
	const ptrdiff_t mask = ~(ptrdiff_t)(THREAD_LARGE_STEP - 1);
	ptrdiff_t step = 0;
	size_t before;

	if (bytes > t->promised)
		step = (bytes - t->promised + THREAD_LARGE_STEP - 1) & mask;
	else if (t->promised - bytes >= 2 * THREAD_LARGE_STEP || bytes == 0)
		step = -((t->promised - bytes) & mask);
	if (step == 0)
		return true;
	before = atomic_load_explicit(&thread_bins.large, memory_order_relaxed);
	if (step > 0 && (bytes > THREAD_LARGE_MOST ||
			 before + (size_t)step > THREAD_LARGE_BYTES))
		return false;
	osmem_thread_lend(step);
	t->promised += step;
	return true;
}

/* What it may hold without a promise: more, when it uses much. */
static ptrdiff_t thread_large_own(const struct osmem_thread *t)
{
	return THREAD_LARGE_OWN + (ptrdiff_t)t->most / THREAD_LARGE_SHARE;
}

static bool thread_reserve(struct osmem_thread *t, size_t size, ptrdiff_t more)
{
	ptrdiff_t bytes = (ptrdiff_t)size * more;
	ptrdiff_t above;

	if (size < THREAD_LARGE)
		return true;
	above = t->large + bytes - thread_large_own(t);
	/* What gets less asks for nothing, though its own share has shrunk. */
	if (more < 0 && above > t->promised)
		above = t->promised;
	if (above < 0)
		above = 0;
	/* It would be refused each time, and the others would wait for that. */
	if (above > t->promised && size > THREAD_LARGE_MOST)
		return false;
	if (!thread_promise(t, above)) {
		t->refused = THREAD_LARGE_REFUSED;
		return false;
	}
	t->large += bytes;
	return true;
}

static ptrdiff_t thread_most(const struct osmem_thread *t, unsigned int class)
{
	return t->end[class] - t->bin[class];
}

size_t osmem_thread_held(const struct osmem_thread *t)
{
	size_t bytes = 0;
	unsigned int class;

	for (class = 0; class < OSMEM_CLASSES; class++)
		bytes += (size_t)(t->top[class] - t->bin[class]) *
			 thread_rules[class].size;
	return bytes;
}

/* A bin's place for what it holds at first, or for all that it may. */
static void **thread_place(struct osmem_thread *t, unsigned int class, bool far)
{
	const struct thread_rule *rule = &thread_rules[class];

	return (void **)(t + 1) + (far ? rule->far : rule->near);
}

/* A place for so many slots. */
static void thread_make_space(struct osmem_thread *t, unsigned int class,
			      ptrdiff_t most)
{
	void **place = thread_place(t, class, most > thread_rules[class].first);
	ptrdiff_t count = t->top[class] - t->bin[class];
	void **bin = t->bin[class];

	/* It never comes nearer while it holds anything. */
	if (bin >= place || most == 0)
		return;
	place = osmem_thread_begin_place(t, place);
	if (count < 0)
		count = 0;
	memcpy(place + 1, bin + 1, (size_t)count * sizeof(void *));
	t->top[class] = place + count;
	t->end[class] = place + thread_most(t, class);
	t->bin[class] = place;
}

void osmem_thread_set_most(struct osmem_thread *t, unsigned int class,
			   ptrdiff_t most)
{
	ptrdiff_t more = most - thread_most(t, class);

	if (more == 0 || !thread_reserve(t, thread_rules[class].size, more))
		return;
	thread_make_space(t, class, most);
	if ((most == 0) != (most == more))
		atomic_fetch_add_explicit(&thread_bins.bins,
					  most == 0 ? (size_t)-1 : 1,
					  memory_order_relaxed);
	t->end[class] = t->bin[class] + most;
}

/*
 * What a bin may hold: more, when it proves too small, but no more than is in
 * use; of large slots half of that, or each of many classes would be kept whole
 * by its bin. One that is a good part of what the thread uses may be. Lock.
 */
static void thread_widen(struct osmem_thread *t, unsigned int class)
{
	const struct thread_rule *rule = &thread_rules[class];
	ptrdiff_t most = thread_most(t, class);
	ptrdiff_t used = (ptrdiff_t)t->used[class];
	ptrdiff_t limit = rule->most;

	if (rule->size >= THREAD_LARGE &&
	    t->used[class] * rule->size < t->bytes / THREAD_PART) {
		used /= 2;
		limit /= 2;
	}
	if (limit > used && rule->size >= THREAD_MIDDLE)
		limit = used;
	if (limit < rule->first)
		limit = rule->first;
	if (most >= limit)
		return;
	most = most == 0 ? rule->first : most * THREAD_BIN_GROWTH;
	if (rule->size >= THREAD_LARGE && most > rule->first &&
	    t->refused != 0) {
		t->refused--;
		return;
	}
	osmem_thread_set_most(t, class, most < limit ? most : limit);
}

/* Slots that the thread has used go back to their slabs, its own. Lock. */
static void thread_put(struct osmem_thread *t, void *const *slots, size_t count)
{
	while (count != 0) {
		struct osmem_slab *s = osmem_slab_or_nobody(*slots);
		uint32_t used = osmem_slab_in_use(s);
		size_t idle = osmem_slab_idle(s);
		size_t n = osmem_slab_put(s, slots, count);

		osmem_slab_catch_up(s);
		slots += n;
		count -= n;
		osmem_thread_account(t, s, used, idle);
		osmem_thread_settle_put(t, s);
	}
}

/* Keeps the last so many slots of a bin. Lock. */
void osmem_thread_cut(struct osmem_thread *t, unsigned int class,
		      ptrdiff_t keep)
{
	void **first = t->bin[class] + 1;
	ptrdiff_t gone = t->top[class] - t->bin[class] - keep;

	if (gone <= 0)
		return;
	thread_put(t, first, (size_t)gone);
	memmove(first, first + gone, (size_t)keep * sizeof(void *));
	t->top[class] -= gone;
}

/*
 * A slot in a bin keeps a page, or more: no more of them than a share of those
 * in use, reached by quarters, as a class that is in use has its turns. Lock.
 */
static void thread_narrow(struct osmem_thread *t, unsigned int class)
{
	size_t size = thread_rules[class].size;
	ptrdiff_t share = (ptrdiff_t)t->used[class] / THREAD_BIN_SHARE;
	ptrdiff_t least = thread_bin_least(size);

	if (share < least || size >= THREAD_LARGE)
		share = least;
	if (share < thread_most(t, class) / THREAD_BIN_GROWTH)
		share = thread_most(t, class) / THREAD_BIN_GROWTH;
	if (thread_most(t, class) > share)
		osmem_thread_set_most(t, class, share);
}

/*
 * A class is being given up when a quarter of what was in use is gone since it
 * was last found to be: those that come and go by chance do not get there.
 */
static bool thread_is_given_up(struct osmem_thread *t, unsigned int class)
{
	size_t used = t->used[class];

	if (used * 4 >= t->peak[class] * (size_t)3)
		return false;
	t->peak[class] = (uint32_t)used;
	return true;
}

/* The bins have been emptied: the pages of their places go back, if many. */
void osmem_thread_purge_places(struct osmem_thread *t)
{
	uintptr_t start = osmem_up((uintptr_t)thread_place(t, 0, true),
				   osmem_sys_page_size());
	size_t bytes = 0;
	unsigned int class;

	for (class = 0; class < OSMEM_CLASSES; class++)
		if (t->bin[class] >= thread_place(t, class, true))
			bytes += (thread_rules[class].most +
				  OSMEM_THREAD_BELOW) *
				 sizeof(void *);
	if (bytes < THREAD_PLACES)
		return;
	osmem_thread_clear_places(t);
	osmem_region_purge_bytes((void *)start,
				 (uintptr_t)t + OSMEM_THREAD_AREA - start);
}

/*
 * Little is left of what the thread used: what bins keep for a class of which
 * there were few is not looked at again.
 */
void osmem_thread_watch(struct osmem_thread *t)
{
	unsigned int class;

	if (t->bytes >= t->most / THREAD_LITTLE)
		return;
	t->most = t->bytes;
	/* Of those that may hold nothing, too: they may have been narrowed. */
	for (class = 0; class < OSMEM_CLASSES; class++) {
		osmem_thread_cut(t, class, 0);
		osmem_thread_set_most(t, class, 0);
	}
	osmem_thread_purge_places(t);
}

/* Slots have come back. Half of a bin that is full makes room. Lock. */
static void thread_judge(struct osmem_thread *t, unsigned int class)
{
	if (thread_is_given_up(t, class)) {
		thread_narrow(t, class);
		/* We may not come here again. */
		osmem_thread_drain(t, class, false, NULL, 0);
	}
	osmem_thread_watch(t);
	if (t->top[class] >= t->end[class])
		osmem_thread_cut(t, class, thread_most(t, class) / 2);
	/* free() knows a full bin by its end. */
	OSMEM_ASSERT(t->top[class] <= t->end[class]);
}

/* --- frees off the hot path --- */

/* A marked slot of the thread's own goes to its slab. */
static void thread_put_one(struct osmem_thread *t, unsigned int class,
			   void *ptr)
{
	osmem_thread_enter(t);
	thread_put(t, &ptr, 1);
	thread_judge(t, class);
	osmem_thread_leave(t);
}

/*
 * A bin that was emptied for good, while its class is still being given up:
 * the rest of the slots cost less a few at a time.
 */
static void thread_reopen(struct osmem_thread *t, unsigned int class)
{
	const struct thread_rule *rule = &thread_rules[class];
	ptrdiff_t most = thread_bin_least(rule->size) / 2;

	if (most > rule->first)
		most = rule->first;
	osmem_thread_set_most(t, class, most);
}

/* A full bin is widened, if it was refilled since it was full the last time. */
static void thread_make_room(struct osmem_thread *t, unsigned int class)
{
	osmem_thread_enter(t);
	if (t->credit[class] != OSMEM_THREAD_CREDIT)
		thread_widen(t, class);
	else if (thread_most(t, class) == 0)
		thread_reopen(t, class);
	t->credit[class] = OSMEM_THREAD_CREDIT;
	thread_judge(t, class);
	osmem_thread_leave(t);
}

/* A slot of the thread's own goes to its bin, or to its slab. */
static void thread_free_own(struct osmem_thread *t, struct osmem_slab *s,
			    void *ptr)
{
	unsigned int class = s->class;

	if (t->top[class] == t->end[class])
		thread_make_room(t, class);
	osmem_slab_set_mark(ptr);
	if (t->top[class] == t->end[class] ||
	    atomic_load_explicit(&osmem_slab_shut, memory_order_relaxed))
		thread_put_one(t, class, ptr);
	else
		*++t->top[class] = ptr;
}

void osmem_thread_flush(void *ptr)
{
	bool begun = osmem_thread_begin();

	thread_free_own(osmem_thread_mine, osmem_slab_of(ptr), ptr);
	osmem_thread_end_if(begun);
}

bool osmem_thread_release(struct osmem_slab *s, void *ptr)
{
	struct osmem_thread *t = osmem_thread_mine;

	if (osmem_slab_owner(s) != t)
		return osmem_thread_release_remote(s, ptr);
	thread_free_own(t, s, ptr);
	return true;
}

/* --- refilling --- */

/* A partial slab of the thread's, or a new one. Never one without slots. */
static struct osmem_slab *thread_next_slab(struct osmem_thread *t,
					   unsigned int class)
{
	struct osmem_slab *s = t->lists[class];

	if (s == NULL)
		s = osmem_thread_take_spent(t, class);
	if (s != NULL)
		return s;
	s = osmem_thread_adopt(t, class);
	if (s == NULL) {
		osmem_thread_give_spent(t);
		osmem_lock(&osmem_core_lock);
		s = osmem_slab_new(class, t);
		osmem_unlock(&osmem_core_lock);
	}
	if (s != NULL)
		osmem_thread_own(t, s);
	return s;
}

/* Slots out of the slab; it becomes full when it has none. */
static uint32_t thread_take(struct osmem_thread *t, struct osmem_slab *s,
			    void **place, uint32_t count)
{
	uint32_t taken = 0;
	uint32_t used;
	size_t idle;

	if (s->ready == 0 && osmem_slab_waiting(s) != 0)
		taken = osmem_thread_take_remote(t, s, false, place, count);
	if (taken != 0)
		return taken;
	used = osmem_slab_in_use(s);
	idle = osmem_slab_idle(s);
	taken = osmem_slab_take(s, place, count);
	osmem_thread_account(t, s, used, idle);
	if (taken == 0)
		osmem_thread_move(t, s, OSMEM_THREAD_FULL);
	return taken;
}

/*
 * Slots: what others have freed, up to most, or so many out of as many slabs
 * as it takes. Lock.
 */
static uint32_t thread_fetch(struct osmem_thread *t, unsigned int class,
			     void **place, uint32_t count, uint32_t most)
{
	struct osmem_slab *s;
	uint32_t taken = 0;

	if (unlikely(osmem_thread_is_told(t, class)))
		taken = osmem_thread_drain(t, class, false, place, most);
	while (taken == 0) {
		s = thread_next_slab(t, class);
		if (s == NULL)
			return 0;
		taken = thread_take(t, s, place, count);
	}
	return taken;
}

/*
 * A slot, and as many for the bin as make it half full; more of what others
 * have freed, as it has to go somewhere. Lock.
 */
static uintptr_t *thread_fill(struct osmem_thread *t, unsigned int class)
{
	void **first = t->bin[class] + 1;
	ptrdiff_t most = thread_most(t, class);
	void *slot = NULL;
	uint32_t taken;

	if (most == 0 ||
	    atomic_load_explicit(&osmem_slab_shut, memory_order_relaxed)) {
		thread_fetch(t, class, &slot, 1, 1);
		return slot;
	}
	taken = thread_fetch(t, class, first, (uint32_t)most / 2 + 1,
			     (uint32_t)most);
	if (taken == 0)
		return NULL;
	first[-1] = t->no_slot;
	t->top[class] = first + taken - 2;
	return first[taken - 1];
}

void *osmem_thread_refill(unsigned int class)
{
	struct osmem_thread *t = osmem_thread_attach();
	uintptr_t *slot;

	if (t == NULL)
		return NULL;
	if (unlikely(thread_rules[class].size > t->sizes) &&
	    class < NUM_CLASSES)
		osmem_thread_know(t, class);
	/*
	 * Who is new may have filled it on the way; others come for one, or
	 * with one that was written to.
	 */
	slot = *t->top[class];
	if (slot != t->no_slot) {
		if (unlikely(!osmem_slab_is_marked(slot)))
			osmem_report_written(slot, thread_rules[class].size);
		slot[1] = 0;
		t->top[class]--;
		return slot;
	}
	osmem_thread_enter(t);
	if (t->credit[class] != 0 || thread_most(t, class) == 0)
		thread_widen(t, class);
	if (t->credit[class] != 0)
		t->credit[class]--;
	slot = thread_fill(t, class);
	if (t->peak[class] < t->used[class])
		t->peak[class] = (uint32_t)t->used[class];
	if (t->most < t->bytes && t->bytes >= THREAD_MUCH)
		t->most = t->bytes;
	osmem_thread_leave(t);
	if (slot == NULL)
		return NULL;
	if (unlikely(!osmem_slab_is_marked(slot)))
		osmem_report_written(slot, thread_rules[class].size);
	t->limit =
		atomic_load_explicit(&osmem_region.limit, memory_order_acquire);
	slot[1] = 0;
	return slot;
}
