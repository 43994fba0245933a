/* SPDX-License-Identifier: MIT */
/*
 * interleave.c - explores the states of a few threads, each on a small stack
 * of its own. A state is all stacks, registers, shared memory, and who knows
 * of which access; it is copied out and in again to go another way from it.
 *
 * Who knows is a set for each access that may matter, the last write of a place
 * and the last read by each thread since: of threads, and of atomic places and
 * locks that hand on what was known to who released them. An access adds its
 * thread to none but its own set; a release copies what a thread knows to a
 * place, an acquire what a place knows to a thread.
 */
#include <config.h>

#include "interleave.h"
#include "proof.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <ucontext.h>

enum { THREADS = 3, STACK = 16384, RANGES = 32, CELLS = 512, WORDS = 56 };

/* Sets of threads (from bit 0) and of atomic places (from bit THREADS). */
struct cell {
	uint64_t write;
	uint64_t read[THREADS];
};

/* What goes into a state, besides stacks and shared memory. */
static struct {
	ucontext_t context[THREADS];
	bool done[THREADS];
	int *waits[THREADS]; /* for this lock */
	uint16_t count;	     /* of cells */
	struct cell cell[CELLS];
} now;

static _Alignas(16) char stacks[THREADS][STACK];
static struct {
	char *start;
	size_t size;
} ranges[RANGES];
static unsigned int range_count;
static const void *places[WORDS]; /* atomic, in order of appearance */
static unsigned int place_count;
static const void *cells[CELLS];
static const struct interleave *harness;
static ucontext_t explorer;
static int running = -1;
static char trace[4096];
static unsigned int depth;

int interleave_self(void)
{
	return running;
}

uint64_t proof_choose(uint64_t most)
{
	(void)most;
	abort();
}

void proof_failed(const char *what, const char *file, int line)
{
	printf("%s:%d: does not hold: %s\nthreads:", file, line, what);
	printf(" %.*s\n", (int)depth, trace);
	exit(1);
}

/* --- who knows of which access --- */

void interleave_share(void *start, size_t size)
{
	if (start == NULL) {
		range_count = 0;
		return;
	}
	proof_claim(range_count < RANGES);
	ranges[range_count].start = start;
	ranges[range_count++].size = size;
}

static bool is_shared(const void *p)
{
	unsigned int i;

	for (i = 0; i < range_count; i++)
		if ((uintptr_t)p - (uintptr_t)ranges[i].start < ranges[i].size)
			return true;
	return false;
}

/* The same place has the same number in all states. */
static uint64_t place_bit(const void *p)
{
	unsigned int i = 0;

	while (i < place_count && places[i] != p)
		i++;
	proof_claim(i < WORDS);
	places[i] = p;
	place_count += i == place_count;
	return (uint64_t)1 << (THREADS + i);
}

static struct cell *cell_of(const void *p)
{
	unsigned int i = 0;

	while (i < CELLS && cells[i] != NULL && cells[i] != p)
		i++;
	proof_claim(i < CELLS);
	cells[i] = p;
	while (now.count <= i)
		now.cell[now.count++] = (struct cell){ 0 };
	return &now.cell[i];
}

/* Sets of nobody: it has not happened, or all know. */
static void know(uint64_t *set, uint64_t from, uint64_t to, bool also)
{
	if (*set == 0)
		return;
	if (*set & from)
		*set |= to;
	else if (!also)
		*set &= ~to;
}

/* What from knows, to knows too (also), or instead of what it knew. */
static void hand_on(uint64_t from, uint64_t to, bool also)
{
	unsigned int i;
	int t;

	for (i = 0; i < now.count; i++) {
		know(&now.cell[i].write, from, to, also);
		for (t = 0; t < THREADS; t++)
			know(&now.cell[i].read[t], from, to, also);
	}
}

static void plain(const void *p, bool writes)
{
	uint64_t me = (uint64_t)1 << running;
	struct cell *c;
	int t;

	if (running < 0 || !is_shared(p))
		return;
	c = cell_of(p);
	proof_claim(c->write == 0 || (c->write & me));
	if (!writes) {
		c->read[running] = me;
		return;
	}
	for (t = 0; t < THREADS; t++) {
		proof_claim(c->read[t] == 0 || (c->read[t] & me));
		c->read[t] = 0;
	}
	c->write = me;
}

/* --- threads --- */

static void change(int *wait)
{
	int t = running;

	now.waits[t] = wait;
	swapcontext(&now.context[t], &explorer);
	now.waits[t] = NULL;
}

void interleave_lock(int *word)
{
	if (running >= 0) {
		change(word);
		hand_on(place_bit(word), (uint64_t)1 << running, true);
	}
	proof_claim(*word == 0);
	*word = 1;
}

bool interleave_try(int *word)
{
	if (running >= 0)
		change(NULL);
	if (*word != 0)
		return false;
	if (running >= 0)
		hand_on(place_bit(word), (uint64_t)1 << running, true);
	*word = 1;
	return true;
}

void interleave_unlock(int *word)
{
	if (running >= 0)
		hand_on((uint64_t)1 << running, place_bit(word), false);
	proof_claim(*word == 1);
	*word = 0;
}

static bool acquires(int order)
{
	return order != __ATOMIC_RELAXED && order != __ATOMIC_RELEASE;
}

static bool releases(int order)
{
	return order != __ATOMIC_RELAXED && order != __ATOMIC_ACQUIRE &&
	       order != __ATOMIC_CONSUME;
}

/*
 * Atomic places keep no cells: accesses of any two threads are no fault. A
 * store starts anew what the place knows, what reads and writes goes on.
 */
static void load_order(const volatile void *p, int order)
{
	if (running >= 0 && acquires(order))
		hand_on(place_bit((const void *)p), (uint64_t)1 << running,
			true);
}

static void store_order(const volatile void *p, int order, bool also)
{
	uint64_t from = releases(order) ? (uint64_t)1 << running : 0;

	if (running >= 0 && (from != 0 || !also))
		hand_on(from, place_bit((const void *)p), also);
}

static void atomic_point(const volatile void *p)
{
	if (running >= 0 && is_shared((const void *)p))
		change(NULL);
}

/* --- what the compiler calls --- */

#define PLAIN(n)                                    \
	void __tsan_read##n(void *p);               \
	void __tsan_read##n(void *p)                \
	{                                           \
		plain(p, false);                    \
	}                                           \
	void __tsan_unaligned_read##n(void *p);     \
	void __tsan_unaligned_read##n(void *p)      \
	{                                           \
		plain(p, false);                    \
	}                                           \
	void __tsan_write##n(void *p);              \
	void __tsan_write##n(void *p)               \
	{                                           \
		plain(p, true);                     \
	}                                           \
	void __tsan_unaligned_write##n(void *p);    \
	void __tsan_unaligned_write##n(void *p)     \
	{                                           \
		plain(p, true);                     \
	}

PLAIN(1)
PLAIN(2)
PLAIN(4)
PLAIN(8)
PLAIN(16)

/* Whole structures: they are nobody else's yet. */
void __tsan_read_range(void *p, size_t size);
void __tsan_read_range(void *p, size_t size)
{
	(void)p;
	(void)size;
}

void __tsan_write_range(void *p, size_t size);
void __tsan_write_range(void *p, size_t size)
{
	(void)p;
	(void)size;
}

#define RMW(n, name, op)                                                 \
	uint##n##_t __tsan_atomic##n##_##name(volatile uint##n##_t *p,   \
					      uint##n##_t v, int order); \
	uint##n##_t __tsan_atomic##n##_##name(volatile uint##n##_t *p,   \
					      uint##n##_t v, int order)  \
	{                                                                \
		uint##n##_t old;                                         \
									 \
		atomic_point(p);                                         \
		old = *p;                                                \
		*p = (uint##n##_t)(op);                                  \
		load_order(p, order);                                    \
		store_order(p, order, true);                             \
		return old;                                              \
	}

/* A weak exchange that fails by chance would only go round once more. */
#define EXCHANGE(n, name)                                                 \
	int __tsan_atomic##n##_compare_exchange_##name(                   \
		volatile uint##n##_t *p, uint##n##_t *old, uint##n##_t v, \
		int order, int failure);                                  \
	int __tsan_atomic##n##_compare_exchange_##name(                   \
		volatile uint##n##_t *p, uint##n##_t *old, uint##n##_t v, \
		int order, int failure)                                   \
	{                                                                 \
		atomic_point(p);                                          \
		if (*p != *old) {                                         \
			*old = *p;                                        \
			load_order(p, failure);                           \
			return 0;                                         \
		}                                                         \
		*p = v;                                                   \
		load_order(p, order);                                     \
		store_order(p, order, true);                              \
		return 1;                                                 \
	}

/* The same, as some compilers call it. */
#define VALUE(n)                                                          \
	uint##n##_t __tsan_atomic##n##_compare_exchange_val(              \
		volatile uint##n##_t *p, uint##n##_t old, uint##n##_t v,  \
		int order, int failure);                                  \
	uint##n##_t __tsan_atomic##n##_compare_exchange_val(              \
		volatile uint##n##_t *p, uint##n##_t old, uint##n##_t v,  \
		int order, int failure)                                   \
	{                                                                 \
		__tsan_atomic##n##_compare_exchange_strong(p, &old, v,    \
							   order, failure); \
		return old;                                               \
	}

#define ATOMIC(n)                                                           \
	uint##n##_t __tsan_atomic##n##_load(const volatile uint##n##_t *p,  \
					    int order);                     \
	uint##n##_t __tsan_atomic##n##_load(const volatile uint##n##_t *p,  \
					    int order)                      \
	{                                                                   \
		atomic_point(p);                                            \
		load_order(p, order);                                       \
		return *p;                                                  \
	}                                                                   \
	void __tsan_atomic##n##_store(volatile uint##n##_t *p,              \
				      uint##n##_t v, int order);            \
	void __tsan_atomic##n##_store(volatile uint##n##_t *p,              \
				      uint##n##_t v, int order)             \
	{                                                                   \
		atomic_point(p);                                            \
		*p = v;                                                     \
		store_order(p, order, false);                               \
	}                                                                   \
	RMW(n, exchange, v)                                                 \
	RMW(n, fetch_add, old + v)                                          \
	RMW(n, fetch_sub, old - v)                                          \
	RMW(n, fetch_and, old &v)                                           \
	RMW(n, fetch_or, old | v)                                           \
	EXCHANGE(n, weak)                                                   \
	EXCHANGE(n, strong) \
	VALUE(n)

ATOMIC(8)
ATOMIC(16)
ATOMIC(32)
ATOMIC(64)

void __tsan_init(void);
void __tsan_init(void)
{
}

void __tsan_func_entry(void *call);
void __tsan_func_entry(void *call)
{
	(void)call;
}

void __tsan_func_exit(void);
void __tsan_func_exit(void)
{
}

/* For handlers: here there are none. */
void __tsan_atomic_signal_fence(int order);
void __tsan_atomic_signal_fence(int order)
{
	(void)order;
}

/* --- states --- */

/* Where a stack that is not running ends: below it nothing is kept. */
static char *stack_end(int t)
{
	uintptr_t frame = 0;

#if defined(__x86_64__)
	frame = (uintptr_t)now.context[t].uc_mcontext.gregs[REG_RSP] - 128;
#endif
	if (frame - (uintptr_t)stacks[t] >= STACK)
		return stacks[t];
	return (char *)frame;
}

/* Calls do(start, size) for each part of a state. */
static void each_part(void (*fn)(void *start, size_t size, void *to), void *to)
{
	unsigned int i;
	int t;

	fn(&now, offsetof(__typeof__(now), cell), to);
	fn(now.cell, now.count * sizeof(now.cell[0]), to);
	for (i = 0; i < range_count; i++)
		fn(ranges[i].start, ranges[i].size, to);
	for (t = 0; t < THREADS; t++)
		if (harness->thread[t] != NULL && !now.done[t])
			fn(stack_end(t),
			   (size_t)(stacks[t] + STACK - stack_end(t)), to);
}

static void part_size(void *start, size_t size, void *to)
{
	(void)start;
	*(size_t *)to += size;
}

static void part_save(void *start, size_t size, void *to)
{
	memcpy(*(char **)to, start, size);
	*(char **)to += size;
}

static void part_load(void *start, size_t size, void *to)
{
	memcpy(start, *(char **)to, size);
	*(char **)to += size;
}

static void part_hash(void *start, size_t size, void *to)
{
	uint64_t h = *(uint64_t *)to;
	const char *p = start;
	uint64_t word;

	for (; size >= 8; size -= 8, p += 8) {
		memcpy(&word, p, 8);
		h = (h ^ word) * UINT64_C(0x9e3779b97f4a7c15);
		h ^= h >> 29;
	}
	while (size-- > 0)
		h = (h ^ (unsigned char)*p++) * UINT64_C(0x100000001b3);
	*(uint64_t *)to = h;
}

static char *save(void)
{
	size_t size = 0;
	char *copy;
	char *to;

	each_part(part_size, &size);
	to = copy = malloc(size);
	proof_claim(copy != NULL);
	each_part(part_save, &to);
	return copy;
}

/* The parts' sizes depend on the first: that comes first. */
static void load(char *copy)
{
	each_part(part_load, &copy);
}

static struct {
	uint64_t *hash;
	size_t size;
	size_t used;
} seen;

static bool seen_insert(uint64_t h)
{
	size_t i = h & (seen.size - 1);

	while (seen.hash[i] != 0 && seen.hash[i] != h)
		i = (i + 1) & (seen.size - 1);
	if (seen.hash[i] == h)
		return false;
	seen.hash[i] = h;
	seen.used++;
	return true;
}

static bool is_new(void)
{
	uint64_t *old = seen.hash;
	size_t size = seen.size;
	uint64_t h = 1;
	size_t i;

	if (2 * seen.used >= size) {
		seen.size = size ? 2 * size : 1 << 16;
		seen.used = 0;
		seen.hash = calloc(seen.size, sizeof(*seen.hash));
		proof_claim(seen.hash != NULL);
		for (i = 0; i < size; i++)
			if (old[i] != 0)
				seen_insert(old[i]);
		free(old);
	}
	each_part(part_hash, &h);
	return seen_insert(h | 1);
}

/* --- exploring --- */

static void begin(int t)
{
	harness->thread[t]();
	now.done[t] = true;
	swapcontext(&now.context[t], &explorer);
}

static bool can_run(int t)
{
	return harness->thread[t] != NULL && !now.done[t] &&
	       (now.waits[t] == NULL || *now.waits[t] == 0);
}

static void step(int t)
{
	proof_claim(depth < sizeof(trace));
	trace[depth++] = (char)('0' + t);
	running = t;
	swapcontext(&explorer, &now.context[t]);
	running = -1;
}

static void explore(void)
{
	char *state = save();
	bool any = false;
	int t;

	for (t = 0; t < THREADS; t++) {
		if (!can_run(t))
			continue;
		any = true;
		step(t);
		if (is_new())
			explore();
		depth--;
		load(state);
	}
	free(state);
	if (any)
		return;
	for (t = 0; t < THREADS; t++)
		proof_claim(harness->thread[t] == NULL || now.done[t]);
	harness->finish();
}

unsigned long interleave_run(const struct interleave *what)
{
	int t;

	harness = what;
	memset(&now, 0, sizeof(now));
	memset(cells, 0, sizeof(cells));
	memset(stacks, 0, sizeof(stacks));
	free(seen.hash);
	memset(&seen, 0, sizeof(seen));
	for (t = 0; t < THREADS && what->thread[t] != NULL; t++) {
		getcontext(&now.context[t]);
		now.context[t].uc_stack.ss_sp = stacks[t];
		now.context[t].uc_stack.ss_size = STACK;
		makecontext(&now.context[t], (void (*)(void))begin, 1, t);
	}
	is_new();
	explore();
	return (unsigned long)seen.used;
}

int main(void)
{
	proof();
	return 0;
}
