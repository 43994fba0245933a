/* SPDX-License-Identifier: MIT */
/*
 * proof.c - runs a harness for each sequence of choices there is.
 *
 * The choices of a run are digits of a number, each with a base of its own;
 * after each run the last digit that can goes up by one, and those behind it
 * are forgotten. Exit status 1 when a claim does not hold.
 */
#include "proof.h"

#include <stdio.h>
#include <stdlib.h>

enum { CHOICES = 256, WORDS = 64 * 5 + 3 };

static struct {
	uint64_t value[CHOICES];
	uint64_t most[CHOICES];
	unsigned int made; /* in this run */
	unsigned int known;
} choices;

uint64_t proof_choose(uint64_t most)
{
	unsigned int i = choices.made++;

	if (i >= CHOICES) {
		fprintf(stderr, "too many choices\n");
		exit(99);
	}
	if (i == choices.known) {
		choices.known++;
		choices.value[i] = 0;
		choices.most[i] = most;
	}
	return choices.value[i];
}

/* Five around each power of two, and a few with no pattern. */
uint64_t proof_word(void)
{
	uint64_t n = proof_choose(WORDS - 1);

	if (n < 64 * 5)
		return (UINT64_C(1) << n / 5) + n % 5 - 2;
	return UINT64_C(0x9e3779b97f4a7c15) * (n + 1);
}

void proof_failed(const char *what, const char *file, int line)
{
	unsigned int i;

	printf("%s:%d: does not hold: %s\nafter the choices", file, line,
	       what);
	for (i = 0; i < choices.made; i++)
		printf(" %llu", (unsigned long long)choices.value[i]);
	printf("\n");
	exit(1);
}

static bool next_choices(void)
{
	unsigned int i = choices.known;

	while (i > 0 && choices.value[i - 1] == choices.most[i - 1])
		i--;
	choices.known = i;
	if (i == 0)
		return false;
	choices.value[i - 1]++;
	return true;
}

int main(void)
{
	unsigned long long runs = 0;

	do {
		choices.made = 0;
		proof();
		runs++;
	} while (next_choices());
	printf("holds in %llu runs\n", runs);
	return 0;
}
