/* SPDX-License-Identifier: MIT */
/*
 * class.h - size classes: size <-> class.
 *
 * 16-byte steps at the bottom, then FINE steps per doubling up to 1 KiB, then
 * COARSE ones up to 128 KiB: at most 15 bytes or 12.5% are wasted below 1 KiB,
 * 20% above. NUM_CLASSES, from configure, names one of these spacings:
 *
 *	FINE		8	16	32
 *	COARSE 4	60	76	92
 *	COARSE 8	88	104	120
 *
 * COARSE steps go on from there to the largest class, for blocks that would be
 * mappings of their own otherwise (hot.c); where address space is scarce they
 * do not.
 *
 * Pure functions; no state, no lock.
 */
#ifndef OSMEM_CLASS_H
#define OSMEM_CLASS_H

#include "common.h"

/* FINE and COARSE are the logarithms here. */
enum {
	OSMEM_CLASS_TOP = sizeof(void *) == 8 ? 25 : 17, /* of the largest */
	OSMEM_CLASS_COARSE = NUM_CLASSES % 16 == 12 ? 2 : 3,
	OSMEM_CLASSES = NUM_CLASSES +
			((OSMEM_CLASS_TOP - 17) << OSMEM_CLASS_COARSE),
	OSMEM_CLASS_FINE = (NUM_CLASSES - (7 << OSMEM_CLASS_COARSE)) / 16 + 1,
	/* The linear classes end where steps of 16 are FINE per doubling. */
	OSMEM_CLASS_LINEAR = 1 << OSMEM_CLASS_FINE,
	OSMEM_CLASS_POWER = OSMEM_CLASS_FINE + 4,
	OSMEM_CLASS_MIDDLE = OSMEM_CLASS_LINEAR +
			     ((10 - OSMEM_CLASS_POWER) << OSMEM_CLASS_FINE)
};

#define OSMEM_CLASS_LARGEST ((size_t)1 << OSMEM_CLASS_TOP)

_Static_assert(OSMEM_CLASS_MIDDLE + (7 << OSMEM_CLASS_COARSE) ==
		       NUM_CLASSES,
	       "NUM_CLASSES is the number of some spacing");
/* One step above a power of two wastes 1/(steps + 1) of the slot. */
_Static_assert(OSMEM_CLASS_FINE >= 3 && OSMEM_CLASS_FINE <= 5,
	       "at most 12.5% below 1 KiB, no step below 16");
_Static_assert(OSMEM_CLASS_COARSE >= 2, "at most 20% above 1 KiB");
_Static_assert(OSMEM_CLASSES <= UINT8_MAX, "a class is a byte in tables");
_Static_assert(16 % OSMEM_ALIGN == 0, "every slot is aligned");

/* The logarithm of the steps in the doubling above 2^power. */
static inline unsigned int osmem_class_steps(unsigned int power)
{
	return power < 10 ? OSMEM_CLASS_FINE : OSMEM_CLASS_COARSE;
}

static inline unsigned int osmem_class_base(unsigned int power)
{
	if (power < 10)
		return OSMEM_CLASS_LINEAR +
		       ((power - OSMEM_CLASS_POWER) << OSMEM_CLASS_FINE);
	return OSMEM_CLASS_MIDDLE + ((power - 10) << OSMEM_CLASS_COARSE);
}

/* The doubling that a size from 2 is in: above 2^power, up to twice that. */
static inline unsigned int osmem_class_power(size_t size)
{
	return (unsigned int)(8 * sizeof(long) - 1) -
	       (unsigned int)__builtin_clzl(size - 1);
}

/* The class of a size from 1 to OSMEM_CLASS_LARGEST. */
static inline unsigned int osmem_class_of(size_t size)
{
	unsigned int power;
	unsigned int steps;

	if (size <= 16 * OSMEM_CLASS_LINEAR)
		return (unsigned int)((size - 1) / 16);
	power = osmem_class_power(size);
	steps = osmem_class_steps(power);
	return osmem_class_base(power) +
	       (unsigned int)((size - 1) >> (power - steps)) -
	       (1U << steps);
}

/* The largest size of a class. */
static inline size_t osmem_class_size(unsigned int class)
{
	unsigned int power = OSMEM_CLASS_POWER;
	unsigned int steps;

	if (class < OSMEM_CLASS_LINEAR)
		return 16 * (size_t)(class + 1);
	while (power < OSMEM_CLASS_TOP - 1 &&
	       class >= osmem_class_base(power + 1))
		power++;
	steps = osmem_class_steps(power);
	return (size_t)((1U << steps) + 1 + class - osmem_class_base(power))
	       << (power - steps);
}

/* The largest size of the class of a size. */
static inline size_t osmem_class_round(size_t size)
{
	unsigned int power;

	if (size <= 16 * OSMEM_CLASS_LINEAR)
		return osmem_up(size, 16);
	power = osmem_class_power(size);
	return osmem_up(size, (size_t)1 << (power - osmem_class_steps(power)));
}

/*
 * The least size whose class has slots at multiples of alignment, a power of
 * two, for so large a size. Where the steps between classes are no multiples of
 * it, it is one of the steps, so the result is the size of a class.
 */
static inline size_t osmem_class_aligned(size_t size, size_t alignment)
{
	return osmem_up(size, alignment);
}

#endif
