/* SPDX-License-Identifier: MIT */
/*
 * class.h - size classes: size <-> class.
 *
 * 16-byte steps up to 128, then 8 per doubling up to 1 KiB, then 4 up to
 * 128 KiB: at most 15 bytes or 12.5% are wasted below 1 KiB, 20% above. Pure
 * functions; no state, no lock.
 */
#ifndef OSMEM_CLASS_H
#define OSMEM_CLASS_H

#include "common.h"

enum {
	OSMEM_CLASS_LINEAR = 8, /* classes in steps of 16 */
	OSMEM_CLASSES = OSMEM_CLASS_LINEAR + 3 * 8 + 7 * 4
};

#define OSMEM_CLASS_LARGEST ((size_t)128 << 10)

/* The logarithm of the steps in the doubling above 2^power. */
static inline unsigned int osmem_class_steps(unsigned int power)
{
	return power < 10 ? 3 : 2;
}

static inline unsigned int osmem_class_base(unsigned int power)
{
	return power < 10 ? OSMEM_CLASS_LINEAR + (power - 7) * 8 :
			    OSMEM_CLASS_LINEAR + 24 + (power - 10) * 4;
}

/* The class of a size from 1 to OSMEM_CLASS_LARGEST. */
static inline unsigned int osmem_class_of(size_t size)
{
	unsigned int power;
	unsigned int steps;

	if (size <= 16 * OSMEM_CLASS_LINEAR)
		return (unsigned int)((size - 1) / 16);
	power = (unsigned int)(8 * sizeof(long) - 1) -
		(unsigned int)__builtin_clzl(size - 1);
	steps = osmem_class_steps(power);
	return osmem_class_base(power) +
	       (unsigned int)((size - 1) >> (power - steps)) -
	       (1U << steps);
}

/* The largest size of a class. */
static inline size_t osmem_class_size(unsigned int class)
{
	unsigned int power = 7;
	unsigned int steps;

	if (class < OSMEM_CLASS_LINEAR)
		return 16 * (size_t)(class + 1);
	while (power < 16 && class >= osmem_class_base(power + 1))
		power++;
	steps = osmem_class_steps(power);
	return (size_t)((1U << steps) + 1 + class - osmem_class_base(power))
	       << (power - steps);
}

#endif
