/* SPDX-License-Identifier: MIT */
/*
 * prove_class.c - every size has the smallest class that holds it, in each
 * spacing.
 *
 * each: config.h s/NUM_CLASSES 60/NUM_CLASSES 76/
 * each: config.h s/NUM_CLASSES 60/NUM_CLASSES 88/
 * each: config.h s/NUM_CLASSES 60/NUM_CLASSES 92/
 * each: config.h s/NUM_CLASSES 60/NUM_CLASSES 104/
 * each: config.h s/NUM_CLASSES 60/NUM_CLASSES 120/
 * fault: class.h s|(size - 1) / 16|size / 16|
 * fault: class.h s|size <= 16 \* OSMEM|size <= 64 * OSMEM|
 * fault: class.h s|(1U << steps) + 1 + class|(1U << steps) + class|
 * fault: class.h s|power < 10 ? OSMEM|power <= 10 ? OSMEM|
 * cbmc: --unwind 24
 */
#include "proof.h"

#include "class.h"

void proof(void)
{
	size_t size = 1 + (size_t)proof_choose(OSMEM_CLASS_LARGEST - 1);
	unsigned int class = osmem_class_of(size);
	size_t slot;

	proof_claim(class < OSMEM_CLASSES);
	slot = osmem_class_size(class);
	proof_claim(slot >= size && slot % 16 == 0);
	proof_claim(class == 0 || osmem_class_size(class - 1) < size);
	proof_claim(slot - size < 16 || (slot - size) * 5 <= slot);
	proof_claim(size >= 1024 || slot - size < 16 ||
		    (slot - size) * 8 <= slot);
}
