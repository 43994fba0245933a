/* SPDX-License-Identifier: MIT */
/*
 * thread_remote.c - slots that one thread has allocated and another frees.
 *
 * They go to their slabs' remote lists, without a lock. Who frees the first
 * that the owner is to know of posts the slab to it; the owner takes what was
 * posted of a class when it needs slots of it; and where it may not come by,
 * who frees does that for it, under its lock. Must never touch a bin.
 */
#include "thread_state.h"

#include "lock.h"
#include "slab_remote.h"

OSMEM_VAR_DEFINED struct osmem_slab osmem_thread_closed;

/* Of so many harvests one is of all classes. */
enum { THREAD_HARVESTS = 8 };

/*
 * The slab's posted bit is ours: it stands on no stack. The owner may end
 * meanwhile; then what it leaves is collected by who adopts it, or, when the
 * rest has come back before the bit was gone, here.
 */
void osmem_thread_post(struct osmem_slab *s)
{
	struct osmem_thread *t = osmem_slab_owner(s);
	_Atomic(struct osmem_slab *) *posted;
	struct osmem_slab *top;
	unsigned int pooled;

	if (t != NULL) {
		posted = &t->posted[s->class];
		top = atomic_load_explicit(posted, memory_order_relaxed);
		while (top != &osmem_thread_closed) {
			s->posted_next = top;
			if (atomic_compare_exchange_weak_explicit(
				    posted, &top, s, memory_order_release,
				    memory_order_relaxed))
				return;
		}
	}
	/*
	 * Release: the next who sets it writes posted_next after we have.
	 * Acquire: who put it into a pool before has announced that.
	 */
	atomic_fetch_and_explicit(&s->remote, ~(uint32_t)OSMEM_SLAB_POSTED,
				  memory_order_acq_rel);
	pooled = atomic_load_explicit(&s->pooled, memory_order_relaxed);
	if (pooled != 0 && osmem_slab_is_ripe(s))
		osmem_thread_harvest_pooled(s, pooled - 1);
}

uint32_t osmem_thread_drain(struct osmem_thread *t, unsigned int class,
			    bool close, void **end, uint32_t most)
{
	struct osmem_slab *s;
	struct osmem_slab *next;
	uint32_t taken = 0;

	s = atomic_load_explicit(&t->posted[class], memory_order_relaxed);
	if (!close && (s == NULL || s == &osmem_thread_closed))
		return 0;
	s = atomic_exchange_explicit(&t->posted[class],
				     close ? &osmem_thread_closed : NULL,
				     memory_order_acquire);
	for (; s != NULL && s != &osmem_thread_closed; s = next) {
		next = s->posted_next;
		/* Posted to who owned it before this structure was reused. */
		if (osmem_slab_owner(s) != t)
			osmem_thread_post(s);
		else
			taken += osmem_thread_take_remote(
				t, s, true, taken == 0 ? end : end - taken,
				most - taken);
	}
	return taken;
}

void osmem_thread_look(struct osmem_thread *t)
{
	unsigned int class;

	for (class = 0; class < OSMEM_CLASSES; class++)
		if (atomic_load_explicit(&t->posted[class],
					 memory_order_relaxed) != NULL)
			osmem_thread_drain(t, class, false, NULL, 0);
}

/*
 * In place of an owner that may be asleep. What waits in other classes is
 * little, but of many: it is looked at now and then.
 */
static void thread_look_for(struct osmem_thread *t, unsigned int class)
{
	if (++t->harvests % THREAD_HARVESTS == 0)
		osmem_thread_look(t);
	else
		osmem_thread_drain(t, class, false, NULL, 0);
}

/*
 * Much of somebody's slab has come back, and its owner may be asleep for good:
 * who freed the last of it does what the owner would do. It may have gone, and
 * come again as another, since we freed: then this is done for nothing.
 */
void osmem_thread_harvest(struct osmem_slab *s)
{
	struct osmem_thread *t = osmem_slab_owner(s);
	unsigned int pooled;

	if (osmem_thread_is_forking())
		return;
	if (t != NULL) {
		osmem_thread_enter(t);
		if (osmem_slab_owner(s) == t) {
			thread_look_for(t, s->class);
			/* It is in no stack if it was adopted meanwhile. */
			if (osmem_slab_owner(s) == t)
				osmem_thread_take_remote(t, s, false, NULL, 0);
		}
		osmem_thread_leave(t);
	}
	pooled = atomic_load_explicit(&s->pooled, memory_order_relaxed);
	if (pooled != 0)
		osmem_thread_harvest_pooled(s, pooled - 1);
}

/* Others may have freed what this thread allocated, but for its bins. */
static void thread_look_after(struct osmem_thread *t)
{
	if (t->most == 0)
		return;
	osmem_thread_enter(t);
	osmem_thread_look(t);
	osmem_thread_watch(t);
	osmem_thread_leave(t);
}

/*
 * Whether the owner has taken slots since it was left to itself the last time:
 * then it is again, and finds what has been freed.
 */
static bool thread_comes_by(struct osmem_slab *s)
{
	struct osmem_thread *t = osmem_slab_owner(s);
	uint32_t turn;

	if (t == NULL)
		return false;
	turn = atomic_load_explicit(&t->turn, memory_order_relaxed);
	if (atomic_load_explicit(&s->turn, memory_order_relaxed) == turn)
		return false;
	atomic_store_explicit(&s->turn, turn, memory_order_relaxed);
	return true;
}

/* What is left to do for who has freed a slot of somebody else's. */
static void thread_do_duty(struct osmem_slab *s, int duty)
{
	if (duty & OSMEM_SLAB_POST)
		osmem_thread_post(s);
	if ((duty & OSMEM_SLAB_HARVEST) ||
	    ((duty & OSMEM_SLAB_LOOK) && !thread_comes_by(s))) {
		osmem_thread_harvest(s);
		thread_look_after(osmem_thread_mine);
		/* Of a pool's slab, maybe by the post already: it has gone. */
		if (osmem_region_should_purge())
			osmem_thread_trim(false);
	}
}

bool osmem_thread_release_remote(struct osmem_slab *s, void *ptr)
{
	uint32_t index;
	int duty;

	osmem_slab_find(s, ptr, &index);
	duty = osmem_slab_free_remote(s, ptr, index);
	if (unlikely(duty != 0))
		thread_do_duty(s, duty);
	return (duty & OSMEM_SLAB_REPORT) == 0;
}

/* The slow path begins where there is a duty: the free itself takes no lock. */
static OSMEM_COLD bool thread_begin_duty(struct osmem_slab *s, int duty)
{
	if (duty & OSMEM_SLAB_REPORT)
		return false;
	osmem_thread_begin();
	thread_do_duty(s, duty);
	return true;
}

void osmem_thread_free_remote(void *ptr, const char *call,
			      osmem_thread_rest *rest)
{
	struct osmem_slab *s = osmem_slab_held(ptr);
	const struct osmem_thread *self = osmem_thread_self;
	uintptr_t owner =
		atomic_load_explicit(&s->owner, memory_order_relaxed);
	uint32_t index;
	int duty;

	if (unlikely(owner == 0) || unlikely(owner == (uintptr_t)self) ||
	    unlikely((owner & OSMEM_SLAB_TORN) != 0) ||
	    unlikely(self == &osmem_thread_busy) ||
	    unlikely(!osmem_slab_find(s, ptr, &index)) ||
	    unlikely(osmem_slab_is_marked(ptr))) {
		rest(ptr, call, false);
		return;
	}
	duty = osmem_slab_free_remote(s, ptr, index);
	if (unlikely(duty != 0))
		rest(ptr, call, thread_begin_duty(s, duty));
}
