/* SPDX-License-Identifier: MIT */
/*
 * slab_look.c - walking, counting and checking slabs. Reads only; needs the
 * core's lock, which keeps slabs from coming and going.
 */
#include "slab.h"

#include "print.h"

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
		used += !osmem_slab_is_free(s, p);
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
