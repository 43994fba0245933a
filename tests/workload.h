/* SPDX-License-Identifier: MIT */
/*
 * workload.h - correct random operations whose every effect is checked.
 *
 * Payloads hold a pattern; after each operation, and above all after one that
 * failed, the blocks concerned must be what they were.
 */
#ifndef WORKLOAD_H
#define WORKLOAD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { WORKLOAD_SLOTS = 64 };

struct workload_slot {
	unsigned char *p; /* NULL: empty */
	size_t size;      /* as asked for */
	size_t usable;
	size_t alignment;  /* 0: none asked for */
	unsigned char tag; /* of the pattern */
};

struct workload {
	uint64_t state; /* of the random numbers */
	bool may_fail;  /* a NULL is no fault of the test */
	size_t largest; /* size of a request */
	size_t operations;
	size_t failures;
	struct workload_slot slots[WORKLOAD_SLOTS];
};

/* An empty workload. */
void workload_start(struct workload *w, uint64_t seed);

/* A random number below limit. */
size_t workload_draw(struct workload *w, size_t limit);

/* One random operation; ends the process when something is wrong. */
void workload_step(struct workload *w);

/* Looks at every block and at the whole heap. */
void workload_verify(struct workload *w);

/* Frees everything. */
void workload_finish(struct workload *w);

/* The pattern alone: large payloads are written at their ends and pages. */
void workload_fill(unsigned char *p, size_t size, unsigned char tag);

/* The first bytes of what was filled as size bytes. */
bool workload_holds(const unsigned char *p, size_t size, unsigned char tag,
		    size_t first);

/* The number in an environment variable, or what is usual. */
size_t workload_number(const char *variable, size_t usual);

#endif
