/* SPDX-License-Identifier: MIT */
/*
 * sequence.h - random sequences of calls for the differential test.
 *
 * A step names its block by a slot of a table, never by an address, so that
 * any part of a sequence is a sequence again and can be run by itself. All is
 * decided by the seed; nothing here calls the library or allocates.
 */
#ifndef SEQUENCE_H
#define SEQUENCE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define SEQUENCE_STEPS 3000
#define SEQUENCE_SLOTS 160

enum call {
	CALL_MALLOC,
	CALL_CALLOC,
	CALL_REALLOC,
	CALL_REALLOCARRAY,
	CALL_FREE,
	CALL_FREE_SIZED,
	CALL_ALIGNED_ALLOC,
	CALL_MEMALIGN,
	CALL_POSIX_MEMALIGN,
	CALL_REALLOC_FREED, /* of what the slot held before */
	CALL_SBRK,          /* somebody else moves the break */
	CALL_COUNT
};

/* Bits of refuse: the system calls inside the step that are to fail. */
enum { REFUSE_BRK_1 = 1, REFUSE_BRK_2 = 2, REFUSE_MAP = 4 };

/*
 * k: the count of calloc and reallocarray, the alignment of the aligned
 * calls, 1 in an sbrk that goes back. n: the size, or the sbrk's distance.
 */
struct step {
	enum call call;
	unsigned slot;
	unsigned refuse;
	size_t k;
	size_t n;
};

struct profile;

/*
 * start: where the heap begins, as the distance from a multiple of 1 MiB, so
 * that aligned requests go the same way in a replay. auto_mode: short enough
 * for the first calls of mode auto, which are as exact.
 */
struct sequence {
	const struct profile *profile;
	bool auto_mode;
	size_t start;
	unsigned check_every;
	unsigned count;
	struct step steps[SEQUENCE_STEPS];
};

unsigned sequence_profiles(void);

/* Fills *s with a sequence of the profile of that number. */
void sequence_generate(struct sequence *s, unsigned profile, uint64_t seed);

const char *sequence_profile_name(const struct sequence *s);

/* The step as a C call, in buf. */
void sequence_print_step(const struct step *s, char *buf, size_t size);

#endif
