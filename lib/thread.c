/* SPDX-License-Identifier: MIT */
/*
 * thread.c - bins: refilling, flushing, and what they may hold.
 *
 * A bin is its thread's alone. Must never be called for another's.
 */
#include "thread_state.h"

#include "lock.h"
#include "sys.h"

/* Bins in use, of all threads, and bytes promised to large ones. */
static struct {
	atomic_size_t bins; /* relaxed, as large: measures only */
	atomic_size_t large;
} thread_bins;

enum {
	/* A bin starts small and doubles while it proves too small. */
	THREAD_BIN_FIRST = 2048,
	THREAD_BIN_MOST = 64 * 1024,
	THREAD_BIN_SLOTS = 1024,
	/* A bin of a class that is being given up: a share of what is used. */
	THREAD_BIN_SHARE = 8,
	/* What all bins together may pin then, a page for each slot. */
	THREAD_BINS_PIN = 3 << 18,
	THREAD_LARGE = 1024, /* slots of which a few make a page */
	THREAD_LARGE_BYTES = 384 * 1024, /* of them in all bins */
	THREAD_LARGE_OWN = 16 * 1024,	 /* of them in a thread's, besides */
	THREAD_LARGE_STEP = 32 * 1024
};

/* --- bins --- */

/* How many slots of a bin pin no more than its part of what all may pin. */
static ptrdiff_t thread_bin_least(size_t size)
{
	size_t bins = atomic_load_explicit(&thread_bins.bins, memory_order_relaxed);

	if (size < osmem_sys_page_size())
		size = osmem_sys_page_size();
	return (ptrdiff_t)(THREAD_BINS_PIN / (bins + 1) / size);
}

/*
 * All bins of large slots together hold so many bytes and no more, but for the
 * first of each thread. It asks for them in steps, and not at all while there
 * are none, or all threads would write to one line all the time.
 */
static bool thread_promise(struct osmem_thread *t, ptrdiff_t bytes)
{
	ptrdiff_t step = 0;
	size_t before;

	if (bytes > t->promised)
		step = (bytes - t->promised + THREAD_LARGE_STEP - 1) &
		       ~(ptrdiff_t)(THREAD_LARGE_STEP - 1);
	else if (t->promised - bytes >= 2 * THREAD_LARGE_STEP || bytes == 0)
		step = -((t->promised - bytes) &
			 ~(ptrdiff_t)(THREAD_LARGE_STEP - 1));
	if (step == 0)
		return true;
	before = atomic_load_explicit(&thread_bins.large, memory_order_relaxed);
	if (step > 0 && before + (size_t)step > THREAD_LARGE_BYTES)
		return false;
	atomic_fetch_add_explicit(&thread_bins.large, (size_t)step,
				  memory_order_relaxed);
	t->promised += step;
	return true;
}

static bool thread_reserve(struct osmem_thread *t, size_t size, ptrdiff_t more)
{
	ptrdiff_t bytes = (ptrdiff_t)size * more;
	ptrdiff_t above;

	if (size < THREAD_LARGE)
		return true;
	above = t->large + bytes - THREAD_LARGE_OWN;
	if (!thread_promise(t, above > 0 ? above : 0))
		return false;
	t->large += bytes;
	return true;
}

void osmem_thread_set_most(struct osmem_thread *t, unsigned int class,
			    ptrdiff_t most)
{
	ptrdiff_t more = most - t->most[class];

	if (more == 0 || !thread_reserve(t, osmem_class_size(class), more))
		return;
	if ((most == 0) != (t->most[class] == 0))
		atomic_fetch_add_explicit(&thread_bins.bins,
					  most == 0 ? (size_t)-1 : 1,
					  memory_order_relaxed);
	t->room[class] += more;
	t->most[class] = most;
}

/* What a bin may hold: more, when it proves too small. */
static void thread_widen(struct osmem_thread *t, unsigned int class)
{
	ptrdiff_t size = (ptrdiff_t)osmem_class_size(class);
	ptrdiff_t most = 2 * t->most[class];
	ptrdiff_t limit = THREAD_BIN_MOST / size;

	if (limit > THREAD_BIN_SLOTS)
		limit = THREAD_BIN_SLOTS;
	if (most == 0)
		most = THREAD_BIN_FIRST / size;
	if (most > limit)
		most = limit;
	osmem_thread_set_most(t, class, most > 0 ? most : 1);
}

/* Slots that the thread has used go back to their slabs, its own. Lock. */
static void thread_put(struct osmem_thread *t, void *list)
{
	while (list != NULL) {
		struct osmem_slab *s = osmem_slab_of(list);
		uint32_t used = osmem_slab_in_use(s);
		size_t idle = osmem_slab_idle(s);

		list = osmem_slab_put(s, list);
		osmem_thread_account(t, s, used, idle);
		if (s->full || osmem_slab_in_use(s) == 0)
			osmem_thread_settle(t, s);
	}
}

/* Keeps the first so many slots of a bin. Lock. */
void osmem_thread_cut(struct osmem_thread *t, unsigned int class,
		       ptrdiff_t keep)
{
	void **last = &t->list[class];
	ptrdiff_t kept = 0;
	void *rest;

	for (; kept < keep && *last != NULL; kept++)
		last = *last;
	rest = *last;
	*last = NULL;
	t->room[class] = t->most[class] - kept;
	thread_put(t, rest);
}

/*
 * A slot in a bin keeps a page, or more: no more of them than a share of those
 * in use, reached by halves, as a class that is in use has its turns. Lock.
 */
static void thread_narrow(struct osmem_thread *t, unsigned int class)
{
	size_t size = osmem_class_size(class);
	ptrdiff_t share = (ptrdiff_t)t->used[class] / THREAD_BIN_SHARE;
	ptrdiff_t least = thread_bin_least(size);

	if (share < least || size >= THREAD_LARGE)
		share = least;
	if (share < t->most[class] / 2)
		share = t->most[class] / 2;
	if (t->most[class] > share)
		osmem_thread_set_most(t, class, share);
	if (t->room[class] < 0)
		osmem_thread_cut(t, class, t->most[class] / 2);
}

/* --- frees off the hot path --- */

bool osmem_thread_release(struct osmem_slab *s, void *ptr)
{
	struct osmem_thread *t = osmem_thread_self;
	unsigned int class = s->class;
	int duty;

	if (osmem_thread_free(ptr))
		return true;
	if (osmem_slab_owner(s) == t) {
		((uintptr_t **)ptr)[0] = NULL;
		((uintptr_t *)ptr)[1] = s->mark;
		osmem_thread_enter(t);
		thread_put(t, ptr);
		thread_narrow(t, class);
		osmem_thread_leave(t);
		return true;
	}
	duty = osmem_slab_free_remote(s, ptr);
	if (duty & OSMEM_SLAB_POST) {
		osmem_thread_post(s);
		/* Others may have freed the rest before it was posted. */
		if (osmem_slab_is_ripe(s))
			duty |= OSMEM_SLAB_HARVEST;
	}
	if (duty & OSMEM_SLAB_HARVEST)
		osmem_thread_harvest(s);
	return (duty & OSMEM_SLAB_REPORT) == 0;
}

/* --- refilling and flushing --- */

/* A partial slab of the thread's, or a new one. Never one without slots. */
static struct osmem_slab *thread_next_slab(struct osmem_thread *t,
					   unsigned int class)
{
	struct osmem_slab *s = t->partial[class];

	if (s != NULL)
		return s;
	s = osmem_thread_adopt(t, class);
	if (s == NULL) {
		osmem_lock(&osmem_core_lock);
		s = osmem_slab_new(class, t);
		osmem_unlock(&osmem_core_lock);
	}
	if (s != NULL)
		osmem_thread_own(t, s);
	return s;
}

/* Slots out of the slab; it becomes full when it has none. */
static void *thread_take(struct osmem_thread *t, struct osmem_slab *s,
			 uint32_t count, uint32_t *taken)
{
	uint32_t used = osmem_slab_in_use(s);
	size_t idle = osmem_slab_idle(s);
	void *list;

	if (s->ready == 0)
		osmem_slab_collect(s, false);
	list = osmem_slab_take(s, count, taken);
	osmem_thread_account(t, s, used, idle);
	if (list == NULL) {
		osmem_thread_unlink(&t->partial[s->class], s);
		s->full = true;
		osmem_thread_link(&t->full, s);
	}
	return list;
}

static uint32_t thread_wish(const struct osmem_thread *t, unsigned int class)
{
	if (atomic_load_explicit(&osmem_slab_shut, memory_order_relaxed))
		return 1;
	return (uint32_t)t->most[class] / 2 + 1;
}

/* Slots for a bin, from as many slabs as it takes. Lock. */
static void **thread_fetch(struct osmem_thread *t, unsigned int class,
			   uint32_t *count)
{
	struct osmem_slab *s;
	void **list = NULL;

	osmem_thread_drain(t, false);
	while (list == NULL) {
		s = thread_next_slab(t, class);
		if (s == NULL)
			return NULL;
		list = thread_take(t, s, thread_wish(t, class), count);
	}
	return list;
}

void *osmem_thread_refill(unsigned int class)
{
	struct osmem_thread *t = osmem_thread_attach();
	uint32_t count;
	void **list;

	if (t == NULL)
		return NULL;
	/* A thread that is new may have filled it on the way. */
	if (t->list[class] != NULL)
		return osmem_thread_pop(t, class);
	t->wanted[class] = true;
	thread_widen(t, class);
	osmem_thread_enter(t);
	list = thread_fetch(t, class, &count);
	osmem_thread_leave(t);
	if (list == NULL)
		return NULL;
	t->limit = atomic_load_explicit(&osmem_region.limit,
					memory_order_acquire);
	t->list[class] = list[0];
	t->room[class] -= count - 1;
	list[1] = NULL;
	return list;
}

/*
 * A full bin is widened, but when it was full the last time too, the class is
 * being given up, and so is the bin.
 */
void osmem_thread_flush(unsigned int class)
{
	struct osmem_thread *t = osmem_thread_self;
	bool wanted = t->wanted[class];

	t->wanted[class] = false;
	if (wanted)
		thread_widen(t, class);
	if (t->room[class] >= 0)
		return;
	osmem_thread_enter(t);
	if (!wanted)
		thread_narrow(t, class);
	else
		osmem_thread_cut(t, class, t->most[class] / 2);
	/* We may not come here again. */
	osmem_thread_drain(t, false);
	osmem_thread_leave(t);
}

