/* SPDX-License-Identifier: MIT */
/*
 * block.h - the 32-byte header in front of every payload, and its seal.
 *
 * This file owns the header's bits: nobody else computes or compares seals.
 * Headers are written field by field, never copied whole, because callers may
 * read size and status of their live blocks at any time (contract, rule 2).
 * All functions need the core's lock.
 */
#ifndef OSMEM_BLOCK_H
#define OSMEM_BLOCK_H

#include "common.h"

enum osmem_block_status {
	OSMEM_FREE = 0,
	OSMEM_USED = 1,
	OSMEM_MAPPED = 2
};

/*
 * Heap blocks: prev and next link them in address order. Mapped blocks: prev
 * is the start of the mapping and next its end. The offsets are the same on
 * 32-bit machines.
 */
struct block_meta {
	_Alignas(8) size_t size; /* of the payload */
	_Alignas(8) int status;
	uint32_t seal;
	_Alignas(8) struct block_meta *prev;
	_Alignas(8) struct block_meta *next;
};

_Static_assert(sizeof(struct block_meta) == OSMEM_META, "32-byte header");
_Static_assert(offsetof(struct block_meta, status) == 8, "status at 8");
_Static_assert(offsetof(struct block_meta, seal) == 12, "seal at 12");
_Static_assert(offsetof(struct block_meta, prev) == 16, "prev at 16");
_Static_assert(offsetof(struct block_meta, next) == 24, "next at 24");

/*
 * The process's secret, set once before the first block: what a seal starts
 * from, and a factor, odd, for each word that goes in.
 */
enum {
	OSMEM_KEY_START,
	OSMEM_KEY_PLACE,
	OSMEM_KEY_SIZE,
	OSMEM_KEY_STATUS,
	OSMEM_KEY_PREV,
	OSMEM_KEY_NEXT,
	OSMEM_KEY_OTHER, /* for secrets of others' */
	OSMEM_KEYS
};

OSMEM_VAR uint64_t osmem_block_key[OSMEM_KEYS];

static inline void *osmem_block_payload(struct block_meta *b)
{
	return (char *)b + OSMEM_META;
}

static inline struct block_meta *osmem_block_of(const void *payload)
{
	return (struct block_meta *)((uintptr_t)payload - OSMEM_META);
}

static inline char *osmem_block_end(struct block_meta *b)
{
	return (char *)b + OSMEM_META + b->size;
}

static inline uint64_t osmem_block_mix(uint64_t h, uint64_t v)
{
	h = (h ^ v) * UINT64_C(0x9e3779b97f4a7c15);
	return h ^ (h >> 29);
}

static inline void osmem_block_set_key(const uint64_t seed[2])
{
	uint64_t h = seed[0];
	unsigned int i;

	for (i = 0; i < OSMEM_KEYS; i++) {
		h = osmem_block_mix(osmem_block_mix(h, seed[1]), i);
		osmem_block_key[i] = h | 1;
	}
}

/*
 * What goes into the seal but the status. The products do not wait for each
 * other, and who knows the sum knows the seal of any status.
 */
static inline OSMEM_ANY_BYTES uint64_t
osmem_block_sum(const struct block_meta *b)
{
	return osmem_block_key[OSMEM_KEY_START] +
	       (uintptr_t)b * osmem_block_key[OSMEM_KEY_PLACE] +
	       b->size * osmem_block_key[OSMEM_KEY_SIZE] +
	       (uintptr_t)b->prev * osmem_block_key[OSMEM_KEY_PREV] +
	       (uintptr_t)b->next * osmem_block_key[OSMEM_KEY_NEXT];
}

/* The upper half: it depends on all bits of each word. */
static inline uint32_t osmem_block_seal(uint64_t sum, int status)
{
	sum += (unsigned int)status * osmem_block_key[OSMEM_KEY_STATUS];
	return (uint32_t)(sum >> 32);
}

/* Whether b, whose sum this is, is intact and has this status. */
static inline OSMEM_ANY_BYTES bool
osmem_block_is(const struct block_meta *b, uint64_t sum,
	       enum osmem_block_status status)
{
	return b->status == (int)status &&
	       b->seal == osmem_block_seal(sum, (int)status);
}

/* Gives the block, whose sum this is, another status. */
static inline void osmem_block_mark(struct block_meta *b, uint64_t sum,
				    enum osmem_block_status status)
{
	b->status = (int)status;
	b->seal = osmem_block_seal(sum, (int)status);
}

/* After a change of any field; the block was intact before. */
static inline void osmem_block_reseal(struct block_meta *b)
{
	b->seal = osmem_block_seal(osmem_block_sum(b), b->status);
}

/*
 * The status of its neighbours will be asked for. Where they are b's header
 * says, which is waited for itself; it helps to guess that they have size
 * bytes. b may be anything, as nothing is read.
 */
static inline void osmem_block_expect_neighbours(const struct block_meta *b,
						 size_t size)
{
	uintptr_t status = (uintptr_t)b + offsetof(struct block_meta, status);

	__builtin_prefetch((const void *)(status + OSMEM_META + size));
	__builtin_prefetch((const void *)(status - OSMEM_META - size));
}

/* Gives the block size and status and seals it. Links must be set before. */
static inline void osmem_block_set(struct block_meta *b, size_t size,
				   enum osmem_block_status status)
{
	b->size = size;
	osmem_block_mark(b, osmem_block_sum(b), status);
}

/*
 * Whether the header is as the library wrote it. b must be readable, and may be
 * anything: bytes of a block that the program may not touch, too (watch.h).
 */
static inline OSMEM_ANY_BYTES bool
osmem_block_intact(const struct block_meta *b)
{
	return (unsigned int)b->status <= OSMEM_MAPPED &&
	       b->seal == osmem_block_seal(osmem_block_sum(b), b->status);
}

#endif
