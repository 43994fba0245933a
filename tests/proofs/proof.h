/* SPDX-License-Identifier: MIT */
/*
 * proof.h - what a harness sees of whoever runs it.
 *
 * A harness is a function that makes choices and claims things. CBMC takes a
 * choice for any value at all; on its own, a harness is run for each sequence
 * of choices there is, by proof.c. README.md tells more.
 */
#ifndef OSMEM_PROOF_H
#define OSMEM_PROOF_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* The harness. It starts from scratch each time: no static state is left. */
void proof(void);

/* make check has less time than make check-proofs. */
#ifndef PROOF_QUICK
#define PROOF_QUICK 0
#endif

#ifdef __CPROVER__

uint64_t nondet_word(void);

static inline uint64_t proof_choose(uint64_t most)
{
	uint64_t x = nondet_word();

	__CPROVER_assume(x <= most);
	return x;
}

#define proof_claim(x) __CPROVER_assert(x, #x)

/* A word of 64 bits, any there is. */
static inline uint64_t proof_word(void)
{
	return nondet_word();
}

#define PROOF_CBMC 1

#else

/* A number from 0 to most, each in its turn. */
uint64_t proof_choose(uint64_t most);

/* A word of 64 bits: all near powers of two, and some others. */
uint64_t proof_word(void);

void proof_failed(const char *what, const char *file, int line);

#define proof_claim(x) \
	((void)((x) || (proof_failed(#x, __FILE__, __LINE__), 0)))

#define PROOF_CBMC 0

#endif

#endif
