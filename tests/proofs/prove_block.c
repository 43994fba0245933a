/* SPDX-License-Identifier: MIT */
/*
 * prove_block.c - the header: where things lie, that what was sealed is
 * intact, that no other status is, and that the sum of the seal loses nothing
 * of a word that goes in: one that was changed changes the 64 bits of which the
 * seal is half, so a change escapes by chance only, once in 2^32. CBMC does
 * the first three, as products of two unknown words are too much for it.
 *
 * fault: block.h s|status <= OSMEM_MAPPED|status <= OSMEM_MAPPED + 1|
 * fault: block.h s|(uintptr_t)payload - OSMEM_META|(uintptr_t)payload - 24|
 * fault: block.h s|b->status == (int)status|b->status != (int)status|
 * alone: block.h s/= h . 1;/= h << 1;/
 * fault: block.h s|b + OSMEM_META + b->size;|b + b->size;|
 * alone: block.h s|sum += (unsigned int)status .*;|;|
 * alone: block.h s|sum >> 32|sum|
 * cbmc: --no-standard-checks
 */
#include "proof.h"

#include "block.h"

#include <string.h>

uint64_t osmem_block_key[OSMEM_KEYS];

static struct {
	struct block_meta header;
	char payload[64];
} arena;

static void prove_places(struct block_meta *b)
{
	proof_claim((char *)osmem_block_payload(b) == (char *)b + OSMEM_META);
	proof_claim(osmem_block_of(osmem_block_payload(b)) == b);
	proof_claim(osmem_block_end(b) ==
		    (char *)osmem_block_payload(b) + b->size);
}

/* The inverse of an odd factor, by Newton's steps. */
static uint64_t inverse_of(uint64_t factor)
{
	uint64_t inverse = factor;
	int i;

	for (i = 0; i < 5; i++)
		inverse *= 2 - factor * inverse;
	return inverse;
}

/* What was added to the sum for the word at a place says what the word is. */
static void prove_word(struct block_meta *b, void *word, int key, uintptr_t v)
{
	uint64_t before = osmem_block_sum(b);

	memcpy(word, &v, sizeof(v));
	proof_claim((osmem_block_sum(b) - before) *
			    inverse_of(osmem_block_key[key]) ==
		    v);
	memset(word, 0, sizeof(v));
}

/* By chance one in 2^32 would escape, so this is for a machine's samples. */
static void prove_seal(struct block_meta *b, uint64_t v)
{
	uint32_t seal = b->seal;

	b->status ^= 1;
	proof_claim(!osmem_block_intact(b));
	b->status ^= 1;
	if ((size_t)v == 0)
		return;
	b->size ^= (size_t)v;
	proof_claim(!osmem_block_intact(b));
	b->size ^= (size_t)v;
	b->prev = (struct block_meta *)(uintptr_t)v;
	proof_claim(!osmem_block_intact(b));
	b->prev = NULL;
	b->next = (struct block_meta *)(uintptr_t)v;
	proof_claim(!osmem_block_intact(b));
	b->next = NULL;
	proof_claim(b->seal == seal && osmem_block_intact(b));
}

void proof(void)
{
	struct block_meta *b = &arena.header;
	uint64_t h = proof_word();
	uint64_t v = proof_word();
	uint64_t seed[2] = { h, ~h };

	if (PROOF_CBMC) /* of what is multiplied all but one are known */
		seed[0] = seed[1] = 1;
	osmem_block_set_key(seed);
	memset(b, 0, sizeof(*b));
	if (!PROOF_CBMC) {
		prove_word(b, &b->size, OSMEM_KEY_SIZE, (uintptr_t)v);
		prove_word(b, &b->prev, OSMEM_KEY_PREV, (uintptr_t)v);
		prove_word(b, &b->next, OSMEM_KEY_NEXT, (uintptr_t)v);
	}
	osmem_block_set(b, proof_choose(3) * 8,
			(enum osmem_block_status)proof_choose(2));
	proof_claim(osmem_block_intact(b));
	proof_claim(osmem_block_is(b, osmem_block_sum(b),
				   (enum osmem_block_status)b->status));
	prove_places(b);
	if (!PROOF_CBMC)
		prove_seal(b, v);
	b->status = (int)v;
	osmem_block_reseal(b);
	proof_claim(osmem_block_intact(b) ==
		    (b->status >= OSMEM_FREE && b->status <= OSMEM_MAPPED));
}
