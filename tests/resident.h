/* SPDX-License-Identifier: MIT */
/*
 * resident.h - what is resident, and what of it has to be.
 *
 * Nothing here allocates with malloc. Any doubt ends the process.
 */
#ifndef RESIDENT_H
#define RESIDENT_H

#include <stddef.h>
#include <stdint.h>

/* Zeroed memory that is none of the allocator's, and resident already. */
void *resident_table(size_t size);

/*
 * The bytes of one row of /proc/self/smaps_rollup, "Rss:" or any other. Exact,
 * which statm is not: the kernel counts there in batches.
 */
size_t resident_row(const char *row);

/* The highest RSS that this process has had; not exact. */
size_t resident_peak(void);

/*
 * A set of pages. Its table is resident as far as it is used: close it before
 * anything is measured.
 */
struct resident_pages {
	unsigned char *bits;
	size_t size;
	unsigned int shift;
	size_t count;
};

void resident_pages_open(struct resident_pages *pages);
void resident_pages_add(struct resident_pages *pages, const void *start,
			size_t size);
void resident_pages_close(struct resident_pages *pages);

/* A pseudo random sequence, the same in every run. */
static inline uint64_t resident_random(uint64_t *state)
{
	*state ^= *state << 13;
	*state ^= *state >> 7;
	*state ^= *state << 17;
	return *state * UINT64_C(2685821657736338717) >> 16;
}

_Noreturn void resident_fail(const char *what);

#endif
