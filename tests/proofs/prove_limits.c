/* SPDX-License-Identifier: MIT */
/*
 * prove_limits.c - sizes near the limits: nothing that is not refused wraps
 * on its way to the heap or to a mapping.
 *
 * fault: core.c s|return size > PTRDIFF_MAX;|return size > SIZE_MAX - 16;|
 * fault: core.c s|core_up(size) + OSMEM_META;|core_up(size) + OSMEM_ALIGN;|
 * fault: common.h s|return (n + to - 1) & ~(to - 1);|return n \& ~(to - 1);|
 * fault: heap.c s|gap += alignment;|gap += OSMEM_ALIGN;|
 * fault: span.c s|osmem_up(extent, step)|osmem_up(extent, step / 2)|
 * cbmc: --unwind 66
 */
#include "proof.h"

#include "span.c"

#include "heap.c"

#include "core.c"

static size_t size;
bool osmem_watch_on;

static void prove_total(void)
{
	size_t up = osmem_up(size, OSMEM_ALIGN);

	proof_claim(up >= size && up - size < OSMEM_ALIGN);
	proof_claim(core_total(size) == up + OSMEM_META);
	proof_claim(core_total(size) > size);
}

/* As core_get() and core_map() add them up. */
static void prove_aligned(size_t alignment)
{
	size_t total = core_total(size);

	if (alignment > SIZE_MAX - total)
		return;
	total += alignment;
	proof_claim(total >= size + alignment);
}

static void prove_gap(size_t start, size_t alignment)
{
	size_t gap = heap_gap((char *)start, alignment);

	proof_claim((start + OSMEM_META + gap) % alignment == 0);
	proof_claim(gap == 0 || gap >= OSMEM_META + OSMEM_ALIGN);
	proof_claim(gap < alignment + OSMEM_META + OSMEM_ALIGN);
}

static void prove_step(void)
{
	size_t step = osmem_span_step(size);

	proof_claim(step >= size);
	proof_claim(step % ((size_t)64 << 10) == 0);
	proof_claim(step - size < ((size_t)64 << 10) ||
		    step - size <= size / 4);
}

void proof(void)
{
	size_t alignment = (size_t)1 << proof_choose(sizeof(size_t) * 8 - 1);

	size = (size_t)proof_word();
	proof_claim(core_too_large(size) == (size > PTRDIFF_MAX));
	if (alignment >= OSMEM_ALIGN && alignment <= SIZE_MAX / 8)
		prove_gap((size_t)proof_choose(1023) * OSMEM_ALIGN, alignment);
	if (core_too_large(size))
		return;
	prove_total();
	prove_aligned(alignment);
	if (size <= PTRDIFF_MAX / 4)
		prove_step();
}
