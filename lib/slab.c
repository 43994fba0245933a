/* SPDX-License-Identifier: MIT */
/*
 * slab.c - records: making, carving, remote frees.
 *
 * Making and deleting need the core's lock; the rest is the owner's, but the
 * remote list, which is one atomic word. Must never read a slot that has not
 * been located.
 */
#include "slab.h"

#include "check.h"
#include "print.h"

OSMEM_VAR_DEFINED struct osmem_slab osmem_slab_nobody;
OSMEM_VAR_DEFINED uintptr_t osmem_slab_key;

/* A slab has at least so many slots, and wastes at most a 12th at its end. */
enum { SLAB_SLOTS_LEAST = 8, SLAB_WASTE = 12, SLAB_UNITS_MOST = 32 };

static size_t slab_units(size_t size)
{
	size_t units = 1;

	while (units < SLAB_UNITS_MOST &&
	       (units * OSMEM_UNIT / size < SLAB_SLOTS_LEAST ||
		units * OSMEM_UNIT % size > units * OSMEM_UNIT / SLAB_WASTE))
		units++;
	return units;
}

struct osmem_slab *osmem_slab_of(const void *p)
{
	size_t offset = (uintptr_t)p - (uintptr_t)osmem_region.base;
	struct osmem_slab *s;

	/* Pairs with the release in region.c: the record is readable. */
	if (offset >= atomic_load_explicit(&osmem_region.limit,
					   memory_order_acquire))
		return NULL;
	s = osmem_region.heads[offset >> OSMEM_UNIT_SHIFT];
	return s != &osmem_slab_nobody ? s : NULL;
}

struct osmem_slab *osmem_slab_new(unsigned int class,
				  struct osmem_thread *owner)
{
	size_t size = osmem_class_size(class);
	size_t units = slab_units(size);
	struct osmem_slab *s;
	size_t first;
	size_t i;
	bool clean;

	if (!osmem_region_take(units, &first, &clean))
		return NULL;
	s = osmem_slab_record(first);
	for (i = 0; i < units; i++)
		osmem_region.heads[first + i] = s;
	s->start = osmem_region.base + (first << OSMEM_UNIT_SHIFT);
	s->magic = UINT64_MAX / size + 1;
	/* Odd, so never a small number or a pointer. */
	s->mark = ((uintptr_t)s->start ^ osmem_slab_key) *
			  (uintptr_t)UINT64_C(0x9e3779b97f4a7c15) |
		  1;
	s->free = NULL;
	s->used = 0;
	atomic_store_explicit(&s->carved, 0, memory_order_relaxed);
	s->size = (uint32_t)size;
	s->most = (uint32_t)(units * OSMEM_UNIT / size * size);
	s->class = (uint8_t)class;
	s->units = (uint16_t)units;
	s->state = OSMEM_SLAB_PARTIAL;
	s->prev = s->next = s->posted_next = NULL;
	atomic_store_explicit(&s->remote, 0, memory_order_relaxed);
	atomic_store_explicit(&s->owner, owner, memory_order_relaxed);
	return s;
}

void osmem_slab_delete(struct osmem_slab *s)
{
	size_t first = (size_t)(s->start - osmem_region.base) >>
		       OSMEM_UNIT_SHIFT;
	size_t i;

	OSMEM_ASSERT(atomic_load(&s->remote) == 0);
	atomic_store_explicit(&s->carved, 0, memory_order_relaxed);
	atomic_store_explicit(&s->owner, NULL, memory_order_relaxed);
	for (i = 0; i < s->units; i++)
		osmem_region.heads[first + i] = &osmem_slab_nobody;
	osmem_region_give(first, s->units, true);
}

/* A list of slots that have never been used. */
static void *slab_carve(struct osmem_slab *s, uint32_t count)
{
	uint32_t carved = osmem_slab_carved(s);
	char *first = s->start + carved;
	char *p = first;

	atomic_store_explicit(&s->carved, carved + count * s->size,
			      memory_order_relaxed);
	for (; --count > 0; p += s->size) {
		*(void **)p = p + s->size;
		((uintptr_t *)p)[1] = s->mark;
	}
	*(void **)p = NULL;
	((uintptr_t *)p)[1] = s->mark;
	return first;
}

void *osmem_slab_take(struct osmem_slab *s, uint32_t count, uint32_t *taken)
{
	uint32_t fresh = (s->most - osmem_slab_carved(s)) / s->size;
	void *list = s->free;
	void **last = &s->free;
	uint32_t n = 0;

	while (n < count && *last != NULL) {
		last = *last;
		n++;
	}
	if (last != &s->free) {
		s->free = *last;
		*last = NULL;
	}
	/* Slots that were never used come last: they have no pages yet. */
	if (n == 0 && fresh != 0) {
		n = fresh < count ? fresh : count;
		list = slab_carve(s, n);
	}
	s->used += n;
	*taken = n;
	return list;
}

/*
 * Release: who takes the list sees what was written into the slots, link and
 * mark included. Acquire: who sets the posted bit, the first since the last
 * drain, may write posted_next, which the drain has read before it cleared it.
 */
bool osmem_slab_free_remote(struct osmem_slab *s, void *p)
{
	uintptr_t old = atomic_load_explicit(&s->remote, memory_order_relaxed);

	((uintptr_t *)p)[1] = s->mark;
	do {
		*(uintptr_t *)p = old & ~(uintptr_t)OSMEM_SLAB_POSTED;
	} while (!atomic_compare_exchange_weak_explicit(
		&s->remote, &old, (uintptr_t)p | OSMEM_SLAB_POSTED,
		memory_order_acq_rel, memory_order_relaxed));
	return (old & OSMEM_SLAB_POSTED) == 0;
}

bool osmem_slab_collect(struct osmem_slab *s, bool posted)
{
	uintptr_t old = atomic_load_explicit(&s->remote, memory_order_relaxed);
	void *p;
	void *next;

	if (!posted && old <= OSMEM_SLAB_POSTED)
		return false;
	/* Pairs with the above in both directions. */
	while (!atomic_compare_exchange_weak_explicit(
		&s->remote, &old, posted ? 0 : old & OSMEM_SLAB_POSTED,
		memory_order_acq_rel, memory_order_relaxed))
		continue;
	p = (void *)(old & ~(uintptr_t)OSMEM_SLAB_POSTED);
	if (p == NULL)
		return false;
	for (; p != NULL; p = next) {
		next = *(void **)p;
		osmem_slab_put(s, p);
	}
	return true;
}

/* --- looking --- */

struct osmem_slab *osmem_slab_above(const void *p)
{
	size_t units = atomic_load_explicit(&osmem_region.limit,
					    memory_order_relaxed) >>
		       OSMEM_UNIT_SHIFT;
	size_t i = 0;

	if ((const char *)p >= osmem_region.base)
		i = ((size_t)((const char *)p - osmem_region.base) >>
		     OSMEM_UNIT_SHIFT) +
		    1;
	for (; i < units; i++) {
		struct osmem_slab *s = osmem_region.heads[i];

		if (s != &osmem_slab_nobody && s == osmem_slab_record(i))
			return s;
	}
	return NULL;
}

size_t osmem_slab_used(const struct osmem_slab *s)
{
	const char *p = s->start;
	const char *end = p + osmem_slab_carved(s);
	size_t used = 0;

	for (; p < end; p += s->size)
		used += !osmem_slab_is_marked(s, p);
	return used;
}

static int slab_fault(bool broken, const struct osmem_slab *s, const char *what)
{
	if (broken)
		osmem_print(2, "%s: heap check: slab %p: %s\n", OSMEM_NAME,
			    (const void *)s->start, what);
	return broken;
}

static int slab_check_one(const struct osmem_slab *s)
{
	size_t first = (size_t)(s->start - osmem_region.base) >>
		       OSMEM_UNIT_SHIFT;
	int faults = 0;
	size_t i;

	faults += slab_fault(s != osmem_slab_record(first), s, "odd start");
	faults += slab_fault(s->class >= OSMEM_CLASSES ||
			     s->size != osmem_class_size(s->class),
			     s, "odd class");
	faults += slab_fault(osmem_slab_carved(s) > s->most ||
			     osmem_slab_carved(s) % s->size != 0,
			     s, "odd number of slots");
	for (i = 0; i < s->units; i++)
		faults += slab_fault(osmem_region.heads[first + i] != s, s,
				     "a unit of it is somebody else's");
	return faults;
}

int osmem_slab_check(void)
{
	struct osmem_slab *s = NULL;
	size_t bytes = 0;
	int faults = 0;

	while ((s = osmem_slab_above(s == NULL ? NULL : s->start)) != NULL) {
		faults += slab_check_one(s);
		bytes += (size_t)s->units << OSMEM_UNIT_SHIFT;
	}
	return faults + (bytes != osmem_region_totals().used);
}
