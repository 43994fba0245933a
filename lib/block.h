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

/* The process's secret; set once before the first block. */
OSMEM_VAR uint64_t osmem_block_key[2];

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

static inline OSMEM_ANY_BYTES uint32_t
osmem_block_seal(const struct block_meta *b)
{
	uint64_t h = osmem_block_mix(osmem_block_key[0], (uintptr_t)b);

	h = osmem_block_mix(h, b->size ^ ((uint64_t)b->status << 62));
	h = osmem_block_mix(h, (uintptr_t)b->prev);
	h = osmem_block_mix(h, (uintptr_t)b->next ^ osmem_block_key[1]);
	return (uint32_t)(h >> 32);
}

/* After a change of any field; the block was intact before. */
static inline void osmem_block_reseal(struct block_meta *b)
{
	b->seal = osmem_block_seal(b);
}

/* Gives the block size and status and seals it. Links must be set before. */
static inline void osmem_block_set(struct block_meta *b, size_t size,
				   enum osmem_block_status status)
{
	b->size = size;
	b->status = (int)status;
	osmem_block_reseal(b);
}

/*
 * Whether the header is as the library wrote it. b must be readable, and may be
 * anything: bytes of a block that the program may not touch, too (watch.h).
 */
static inline OSMEM_ANY_BYTES bool
osmem_block_intact(const struct block_meta *b)
{
	return (unsigned int)b->status <= OSMEM_MAPPED &&
	       b->seal == osmem_block_seal(b);
}

#endif
