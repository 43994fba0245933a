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
	atomic_fetch_and_explicit(&s->remote,
				  ~(osmem_slab_word)OSMEM_SLAB_POSTED,
				  memory_order_acq_rel);
	pooled = atomic_load_explicit(&s->pooled, memory_order_relaxed);
	if (pooled != 0 && osmem_slab_is_ripe(s))
		osmem_thread_harvest_pooled(s, pooled - 1);
}

/* The next slab of a class that was posted, if any; close: the last. */
static struct osmem_slab *thread_take_posted(struct osmem_thread *t,
					     unsigned int class, bool close)
{
	struct osmem_slab *s = t->taken[class];

	if (!close && !osmem_thread_is_told(t, class))
		return NULL;
	if (s == NULL) {
		s = atomic_exchange_explicit(&t->posted[class],
					     close ? &osmem_thread_closed :
						     NULL,
					     memory_order_acquire);
		if (s == NULL || s == &osmem_thread_closed)
			return NULL;
	}
	t->taken[class] = s->posted_next;
	return s;
}

uint32_t osmem_thread_drain(struct osmem_thread *t, unsigned int class,
			    bool close, void **place, uint32_t most)
{
	struct osmem_slab *s;
	uint32_t taken = 0;

	while ((most == 0 || taken < most) &&
	       (s = thread_take_posted(t, class, close)) != NULL) {
		/* Posted to who owned it before this structure was reused. */
		if (osmem_slab_owner(s) != t)
			osmem_thread_post(s);
		else
			taken += osmem_thread_take_remote(
				t, s, true, taken == 0 ? place : place + taken,
				most - taken);
	}
	return taken;
}

void osmem_thread_look(struct osmem_thread *t)
{
	unsigned int class;

	/* Asked here, too: most have nothing. */
	for (class = 0; class < OSMEM_CLASSES; class++)
		if (osmem_thread_is_told(t, class))
			osmem_thread_drain(t, class, false, NULL, 0);
}

/*
 * The last of somebody's slab has come back, and its owner may be asleep for
 * good: who freed it does what the owner would do. It may have gone, and
 * come again as another, since we freed: then this is done for nothing.
 */
void osmem_thread_harvest(struct osmem_slab *s)
{
	struct osmem_thread *t = osmem_slab_owner(s);
	unsigned int class;
	unsigned int pooled;

	if (osmem_thread_is_forking())
		return;
	if (t != NULL) {
		osmem_thread_enter(t);
		if (osmem_slab_owner(s) == t) {
			class = s->class;
			osmem_thread_drain(t, class, false, NULL, 0);
			/* It is in no stack if it was adopted meanwhile. */
			if (osmem_slab_owner(s) == t)
				osmem_thread_take_remote(t, s, false, NULL, 0);
			/* Or it was posted just now, and could not go. */
			osmem_thread_drain(t, class, false, NULL, 0);
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
 * What is left to do for who has freed a slot of somebody else's: so many wait
 * now, which are so many bytes more; told: and nobody has posted the slab.
 */
static void thread_do_duty(struct osmem_slab *s, uint32_t count,
			   uint32_t waits, bool told)
{
	bool back;

	if (waits != 0)
		osmem_region_add_waiting((ptrdiff_t)waits);
	if (told)
		osmem_thread_post(s);
	/* Only then: the owner may have put back the rest, and seen no post. */
	back = osmem_slab_has_come_back(s, count);
	if (back)
		osmem_thread_harvest(s);
	/* Of a pool's slab, maybe by the post already: it has gone. */
	if ((waits != 0 || back) && osmem_region_should_purge()) {
		thread_look_after(osmem_thread_mine);
		osmem_thread_trim(false);
	}
}

bool osmem_thread_release_remote(struct osmem_slab *s, void *ptr)
{
	struct osmem_slab_freed freed;
	uint32_t index;

	osmem_slab_find(s, ptr, &index);
	freed = osmem_slab_free_remote(s, ptr, index);
	if (freed.count != 0 && osmem_slab_is_due(s, &freed))
		thread_do_duty(s, freed.count, osmem_slab_waits_more(&freed),
			       freed.told);
	return freed.count != 0;
}

/* The slow path begins where there is a duty: the free itself takes no lock. */
static OSMEM_COLD __attribute__((noinline)) void
thread_end_free(void *ptr, osmem_thread_rest *rest, struct osmem_slab *s,
		uint32_t count, uint32_t waits, bool told)
{
	osmem_thread_begin();
	thread_do_duty(s, count, waits, told);
	rest(ptr, NULL, true);
}

/* Not inline, and ends in calls: it has no registers to save for others. */
__attribute__((noinline)) void
osmem_thread_free_remote(void *ptr, const char *call, osmem_thread_rest *rest)
{
	struct osmem_slab *s = osmem_slab_held(ptr);
	const struct osmem_thread *self = osmem_thread_self;
	uintptr_t owner =
		atomic_load_explicit(&s->owner, memory_order_relaxed);
	struct osmem_slab_freed freed;
	uint32_t index;

	if (unlikely(owner == 0) || unlikely(owner == (uintptr_t)self) ||
	    unlikely((owner & OSMEM_SLAB_TORN) != 0) ||
	    unlikely(self == &osmem_thread_busy) ||
	    unlikely(!osmem_slab_find(s, ptr, &index)) ||
	    unlikely(osmem_slab_is_marked(ptr))) {
		rest(ptr, call, false);
		return;
	}
	freed = osmem_slab_free_remote(s, ptr, index);
	if (unlikely(freed.count == 0))
		rest(ptr, call, false);
	else if (osmem_slab_is_due(s, &freed))
		thread_end_free(ptr, rest, s, freed.count,
				osmem_slab_waits_more(&freed), freed.told);
}
