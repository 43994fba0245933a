/* SPDX-License-Identifier: MIT */
/*
 * fault.c - which allocation calls fail: reading a rule, counting, deciding.
 *
 * Whether a call fails follows from its number alone, so that a program of one
 * thread sees the same in every run.
 */
#include "fault.h"

#include "die.h"
#include "sys.h"

#include <limits.h>
#include <string.h>

/* Where calls are counted; a page that processes can share. */
struct fault_count {
	/*
	 * For who reads the file as text: 'r' or 'f', see fault.h, and a
	 * newline. Relaxed: it is looked at when the process has ended.
	 */
	_Atomic(char) state;
	char newline;
	/* Whose allocations fail. Relaxed: set once, before there are two. */
	atomic_uint process;
	/*
	 * Each call gets a number of its own. Relaxed: it orders nothing.
	 * Words, which wrap on a 32-bit machine.
	 */
	atomic_ulong calls;
	atomic_ulong failed;
};

enum { FAULT_UNITS = 1000000000, FAULT_DECIMALS = 9 };

OSMEM_VAR_DEFINED atomic_uint osmem_fault_kind;

static struct fault_count fault_own;

/* Relaxed: counters of either kind are there for good. */
static _Atomic(struct fault_count *) fault_counts = &fault_own;

/*
 * Of the rule that osmem_fault_kind names. Relaxed: while a rule changes, calls
 * of other threads may go by parts of both. The number is never 0 again.
 */
static atomic_uint fault_number, fault_seed;

/* --- reading --- */

/* What is left of a rule's text. */
struct fault_text {
	const char *at;
	const char *end;
};

static bool fault_skip(struct fault_text *text, const char *word)
{
	size_t size = strlen(word);

	if ((size_t)(text->end - text->at) < size ||
	    memcmp(text->at, word, size) != 0)
		return false;
	text->at += size;
	return true;
}

static bool fault_digit(struct fault_text *text, unsigned int *digit)
{
	if (text->at == text->end || *text->at < '0' || *text->at > '9')
		return false;
	*digit = (unsigned int)(*text->at++ - '0');
	return true;
}

/* Decimal digits, at least one. */
static bool fault_read_number(struct fault_text *text, uint32_t *number)
{
	const char *start = text->at;
	unsigned int digit;
	uint64_t n = 0;

	while (n <= INT_MAX && fault_digit(text, &digit))
		n = n * 10 + digit;
	*number = (uint32_t)n;
	return text->at != start && n <= INT_MAX;
}

/* "0.25", above 0 and at most 1. */
static bool fault_read_chance(struct fault_text *text, uint32_t *units)
{
	uint32_t unit = FAULT_UNITS;
	unsigned int digit;
	const char *start;

	if (!fault_read_number(text, units) || *units > 1)
		return false;
	*units *= unit;
	if (fault_skip(text, ".")) {
		start = text->at;
		while (unit > 1 && fault_digit(text, &digit))
			*units += digit * (unit /= 10);
		if (text->at == start)
			return false;
	}
	return *units > 0 && *units <= FAULT_UNITS;
}

static bool fault_read(struct fault_text *text, struct osmem_fault_rule *rule)
{
	if (fault_skip(text, "no")) {
		rule->kind = OSMEM_FAULT_NO;
		return true;
	}
	if (fault_skip(text, "p=")) {
		rule->kind = OSMEM_FAULT_CHANCE;
		return fault_read_chance(text, &rule->number) &&
		       (!fault_skip(text, ":") ||
			fault_read_number(text, &rule->seed));
	}
	if (fault_skip(text, "nth:"))
		rule->kind = OSMEM_FAULT_NTH;
	else if (fault_skip(text, "every:"))
		rule->kind = OSMEM_FAULT_EVERY;
	else
		return false;
	return fault_read_number(text, &rule->number) && rule->number > 0;
}

bool osmem_fault_read(const char *text, size_t size,
		      struct osmem_fault_rule *rule)
{
	struct osmem_fault_rule read = { .kind = OSMEM_FAULT_NO };
	struct fault_text rest = { text, text + size };

	if (size >= sizeof(read.text) || !fault_read(&rest, &read) ||
	    rest.at != rest.end)
		return false;
	memcpy(read.text, text, size);
	*rule = read;
	return true;
}

const char *osmem_fault_range(const char *text, size_t size)
{
	struct fault_text rest = { text, text + size };

	if (fault_skip(&rest, "nth:"))
		return "nth:1..2147483647";
	if (fault_skip(&rest, "every:"))
		return "every:1..2147483647";
	if (fault_skip(&rest, "p="))
		return "p=0.000000001..1[:0..2147483647]";
	return "no|nth:N|every:N|p=P:SEED";
}

/* --- counting --- */

static struct fault_count *fault_now(void)
{
	return atomic_load_explicit(&fault_counts, memory_order_relaxed);
}

static void fault_set_kind(enum osmem_fault_kind kind)
{
	atomic_store_explicit(&osmem_fault_kind, kind, memory_order_release);
}

void osmem_fault_start(const struct osmem_fault_rule *rule)
{
	fault_set_kind(OSMEM_FAULT_NO);
	if (rule->kind == OSMEM_FAULT_NO)
		return;
	atomic_store_explicit(&fault_number, rule->number,
			      memory_order_relaxed);
	atomic_store_explicit(&fault_seed, rule->seed, memory_order_relaxed);
	atomic_store_explicit(&fault_own.calls, 0, memory_order_relaxed);
	atomic_store_explicit(&fault_own.failed, 0, memory_order_relaxed);
	atomic_store_explicit(&fault_counts, &fault_own, memory_order_relaxed);
	fault_set_kind(rule->kind);
}

void osmem_fault_share(const char *path)
{
	unsigned int me = osmem_sys_process();
	unsigned int first = 0;
	struct fault_count *c;
	void *page;

	if (DIE(osmem_sys_share(path, sizeof(*c), &page), "mmap of a file",
		sizeof(*c)) != 0) {
		fault_set_kind(OSMEM_FAULT_NO);
		return;
	}
	c = page;
	if (atomic_compare_exchange_strong_explicit(&c->process, &first, me,
						    memory_order_relaxed,
						    memory_order_relaxed))
		atomic_store_explicit(&c->state, 'r', memory_order_relaxed);
	else if (first != me)
		fault_set_kind(OSMEM_FAULT_NO);
	atomic_store_explicit(&fault_counts, c, memory_order_relaxed);
}

/* A child of a fork goes on without failures where the counts are shared. */
static bool fault_is_mine(struct fault_count *c)
{
	return c == &fault_own ||
	       atomic_load_explicit(&c->process, memory_order_relaxed) ==
		       osmem_sys_process();
}

/* A number below FAULT_UNITS that looks random. */
static uint32_t fault_random(uint32_t seed, unsigned long call)
{
	uint64_t x = ((uint64_t)seed << 32) ^ call;

	for (int round = 0; round < 3; round++) {
		x = (x ^ x >> 31) * UINT64_C(0x9e3779b97f4a7c15);
		x ^= x >> 32;
	}
	return (uint32_t)(x % FAULT_UNITS);
}

static bool fault_hits(unsigned long call)
{
	unsigned int number = atomic_load_explicit(&fault_number,
						   memory_order_relaxed);

	switch (atomic_load_explicit(&osmem_fault_kind, memory_order_relaxed)) {
	case OSMEM_FAULT_NTH:
		return call == number;
	case OSMEM_FAULT_EVERY:
		return call % number == 0;
	case OSMEM_FAULT_CHANCE:
		return fault_random(atomic_load_explicit(&fault_seed,
							 memory_order_relaxed),
				    call) < number;
	default:
		return false;
	}
}

bool osmem_fault_is_due(void)
{
	struct fault_count *c = fault_now();

	if (!fault_is_mine(c) ||
	    !fault_hits(atomic_fetch_add_explicit(&c->calls, 1,
						  memory_order_relaxed) + 1))
		return false;
	atomic_fetch_add_explicit(&c->failed, 1, memory_order_relaxed);
	atomic_store_explicit(&c->state, 'f', memory_order_relaxed);
	return true;
}

struct osmem_fault_totals osmem_fault_totals(void)
{
	struct fault_count *c = fault_now();
	struct osmem_fault_totals totals = {
		.calls = atomic_load_explicit(&c->calls, memory_order_relaxed),
		.failed = atomic_load_explicit(&c->failed,
					       memory_order_relaxed),
	};

	return totals;
}
