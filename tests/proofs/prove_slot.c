/* SPDX-License-Identifier: MIT */
/*
 * prove_slot.c - osmem_slab_is_slot says yes just to the starts of carved
 * slots, and the number of a slot is right, for all classes and all places.
 *
 * One run looks at one class and place. How much is carved is the choice of
 * the checker's; a machine tries what changes the answer: the slots up to the
 * place, with one more and one less, none and all.
 *
 * A quick run looks at the places around slots alone.
 *
 * fault: slab.c s|osmem_is_power_of_two(size) + 1;|1;|
 * fault: slab.c s|power_of_two(size) + 1;|power_of_two(size);|
 * fault: slab_state.h s|slots \* (s->size|(slots + 1) * (s->size|
 * fault: slab.h s|offset \* s->magic <$|offset * s->magic <=|
 * values: CLASS 0 79
 * cbmc: --unwind 40 --slice-formula --no-standard-checks
 */
#include "proof.h"

/* The file itself: what it calls is not called here. */
#include "slab.c"

#ifndef CLASS
#define CLASS (unsigned int)proof_choose(OSMEM_CLASSES - 1)
#endif

static struct osmem_slab slab;
static char base[2];

static uint32_t carved_slots(bool start, uint32_t index, uint32_t slots)
{
	uint32_t n;

	if (PROOF_CBMC)
		return (uint32_t)proof_choose(slots);
	if (!start)
		return slots;
	switch (proof_choose(4)) {
	case 0:
		return 0;
	case 1:
		return slots;
	default:
		n = index + (uint32_t)proof_choose(2);
		return n > 0 && n - 1 <= slots ? n - 1 : 0;
	}
}

static uint32_t place(size_t units)
{
	uint32_t offset;

	if (!PROOF_QUICK || units == 1)
		return (uint32_t)proof_choose(units * OSMEM_UNIT - 1);
	offset = (uint32_t)proof_choose(slab.most / slab.size - 1) * slab.size;
	offset += (uint32_t)proof_choose(64);
	return offset >= 32 ? offset - 32 : offset;
}

static void prove_class(unsigned int class)
{
	const struct slab_shape *shape = slab_shape(class);
	uint32_t slots;
	uint32_t carved;
	uint32_t offset;

	slab.start = base;
	slab_measure(&slab, class, shape, shape->units);
	slots = slab.most / slab.size;
	offset = place(shape->units);
	carved = carved_slots(offset % slab.size == 0,
			      offset / slab.size, slots);
	slab_set_carved(&slab, carved);
	proof_claim(osmem_slab_is_slot(&slab, slab.start + offset) ==
		    (offset % slab.size == 0 && offset / slab.size < carved));
	if (offset < slab.most)
		proof_claim(slab_index(&slab, slab.start + offset) ==
			    offset / slab.size);
}

void proof(void)
{
	prove_class(CLASS);
}

size_t osmem_sys_page_size(void)
{
	return 4096;
}
