/* SPDX-License-Identifier: MIT */
/*
 * prove_block.c - the header: where things lie, that what was sealed is
 * intact, that no other status is, and that the mix of the seal loses nothing
 * of the word that goes in: one that was changed changes the 64 bits of which
 * the seal is half, so a change escapes by chance only, once in 2^32. CBMC
 * does the first three, as products of two unknown words are too much for it.
 *
 * fault: block.h s|status <= OSMEM_MAPPED|status <= OSMEM_MAPPED + 1|
 * fault: block.h s|(uintptr_t)payload - OSMEM_META|(uintptr_t)payload - 24|
 * alone: block.h s|h ^ (h >> 29)|h ^ (h << 63)|
 * fault: block.h s|b + OSMEM_META + b->size;|b + b->size;|
 * alone: block.h s|b->size ^ ((uint64_t)b->status << 62)|b->size|
 * cbmc: --no-standard-checks
 */
#include "proof.h"

#include "block.h"

uint64_t osmem_block_key[2];

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

/* The inverse of the factor, by Newton's steps. */
static uint64_t unmix(uint64_t h, uint64_t mixed)
{
	const uint64_t factor = UINT64_C(0x9e3779b97f4a7c15);
	uint64_t inverse = factor;
	int i;

	for (i = 0; i < 5; i++)
		inverse *= 2 - factor * inverse;
	mixed ^= mixed >> 29 ^ mixed >> 58;
	return (mixed * inverse) ^ h;
}

/* By chance one in 2^32 would escape, so this is for a machine's samples. */
static void prove_seal(struct block_meta *b, uint64_t v)
{
	uint32_t seal = b->seal;

	b->status ^= 1;
	proof_claim(osmem_block_seal(b) != seal);
	b->status ^= 1;
	if ((size_t)v == 0)
		return;
	b->size ^= (size_t)v;
	proof_claim(osmem_block_seal(b) != seal);
	b->size ^= (size_t)v;
	b->prev = (struct block_meta *)(uintptr_t)v;
	proof_claim(osmem_block_seal(b) != seal);
	b->prev = NULL;
	b->next = (struct block_meta *)(uintptr_t)v;
	proof_claim(osmem_block_seal(b) != seal);
	b->next = NULL;
}

void proof(void)
{
	struct block_meta *b = &arena.header;
	uint64_t h = proof_word();
	uint64_t v = proof_word();

	if (PROOF_CBMC) /* of what is multiplied all but one are known */
		h = 1;
	osmem_block_key[0] = h;
	osmem_block_key[1] = ~h;
	b->prev = b->next = NULL;
	if (!PROOF_CBMC)
		proof_claim(unmix(h, osmem_block_mix(h, v)) == v);
	osmem_block_set(b, proof_choose(3) * 8,
			(enum osmem_block_status)proof_choose(2));
	proof_claim(osmem_block_intact(b));
	prove_places(b);
	if (!PROOF_CBMC)
		prove_seal(b, v);
	b->status = (int)v;
	osmem_block_reseal(b);
	proof_claim(osmem_block_intact(b) ==
		    (b->status >= OSMEM_FREE && b->status <= OSMEM_MAPPED));
}
