/* SPDX-License-Identifier: MIT */
/*
 * return.c - whether the memory of freed blocks goes back to the system.
 *
 * Each case runs in a process of its own: blocks are allocated and written,
 * some or all are freed, and at most a second later, without any further call
 * of the allocator, RSS must be at most what it was before the first block,
 * plus the pages that hold a live block and 12% of them, plus 2 MiB. After
 * os_malloc_trim(0) it must be so at once. Then what is live must still hold
 * what was written.
 *
 *	return [-v MEGABYTES] [--all | --list | CASE...]
 *
 * Without arguments a selection runs, with 64 MB. CASE is SIZES/ORDER/WHO, each
 * of them a name or a pattern of the shell's. By hand:
 *
 *	tests/return -v 200 --all
 *	OSMEM_OPTIONS=mode=fast LD_PRELOAD=.libs/libosmem-malloc.so \
 *		tests/return_malloc -v 200 --all
 *
 * A row per case, in KiB: RSS before, full, after the frees, after how many ms
 * (1000: not within the bound until then), after the trim, the pages of live
 * blocks, what is allowed, and ok; or OVER when the second was not enough, TRIM
 * when the trim was not, BOTH. The exit status is 1 if any was not ok.
 */
#include "front.h"
#include "resident.h"

#include <fnmatch.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { THREADS = 8, ROUNDS = 5, SLACK = 2 << 20, PATIENCE_MS = 1000 };

enum order {
	FORWARD,
	BACKWARD,
	RANDOM,
	SECOND,
	EIGHTH,
	SIXTYFOURTH,
	QUARTER,
	NONE,
	ORDERS
};
enum who {
	SELF,
	OTHER,
	ASLEEP,
	OWN,
	BOTH,
	SWAP,
	EXITED,
	BOUNCE,
	SHRINK,
	TURNS,
	WHOS
};

/* The last four keep some blocks. */
static const char *const order_names[ORDERS] = {
	"forward", "backward",    "random",  "second",
	"eighth",  "sixtyfourth", "quarter", "none"};

static const char *const who_names[WHOS] = {
	"self",   /* one thread */
	"other",  /* main, while the thread that allocated sleeps */
	"asleep", /* the same with eight threads that allocated */
	"own",    /* eight threads, each its own */
	"both",   /* main one in 75, then eight threads their own */
	"swap",   /* eight threads, each those of the next one */
	"exited", /* main, what eight threads left that have ended */
	"bounce", /* one thread, the fifth time */
	"shrink", /* one thread, after having shrunk each block to an eighth */
	"turns"   /* eight threads, their own, the fifth time, with pauses */
};

static const struct sizes {
	const char *name;
	size_t low;
	size_t high;
} sizes[] = {
	{"16", 16, 16},
	{"64", 64, 64},
	{"200", 200, 200},
	{"1000", 1000, 1000},
	{"4000", 4000, 4000},
	{"16K", 16 << 10, 16 << 10},
	{"60K", 60 << 10, 60 << 10},
	{"100K", 100 << 10, 100 << 10},
	{"300K", 300 << 10, 300 << 10},
	{"2M", 2 << 20, 2 << 20},
	{"8M", 8 << 20, 8 << 20},
	{"small", 16, 1000},
	{"mixed", 16, 100000},
};

enum { SIZES = sizeof(sizes) / sizeof(sizes[0]) };

/* Each size, each order, each who; what is alike runs once. */
static const char *const selection[] = {
	"16/forward/self",      "16/eighth/swap",     "64/random/self",
	"64/sixtyfourth/own",   "64/random/exited",   "200/second/other",
	"200/quarter/self",     "1000/backward/own",  "1000/eighth/self",
	"1000/random/bounce",   "4000/random/swap",   "4000/quarter/exited",
	"16K/random/self",      "16K/none/shrink",    "60K/eighth/other",
	"60K/none/shrink",      "100K/random/own",    "100K/eighth/shrink",
	"300K/second/self",     "300K/none/shrink",   "2M/random/swap",
	"small/random/self",    "small/eighth/other", "small/random/exited",
	"small/quarter/bounce", "small/random/own",   "mixed/eighth/swap",
	"mixed/second/exited",  "mixed/none/shrink",  "8M/none/shrink",
	"64/forward/both",      "small/random/both",  "8M/random/other",
	"300K/random/exited",   "8M/quarter/exited",  "mixed/random/asleep",
	"small/second/asleep",  "64/random/turns",    "mixed/random/turns",
	"16K/second/turns",
};

/* What one thread allocates. All tables are resident before. */
struct part {
	char **blocks; /* NULL: freed */
	uint32_t *size;
	uint32_t *turn; /* what is freed, in this order */
	size_t count;
	size_t victims;
	enum who who;
};

static struct part parts[THREADS];
static size_t part_count;
static size_t volume = 64000000;

/* --- planning --- */

/* Each power of two as often as any other. */
static size_t plan_size(const struct sizes *s, uint64_t *state)
{
	size_t base = 16;
	size_t size;

	if (s->low == s->high)
		return s->low;
	do {
		base = (size_t)16 << resident_random(state) % 13;
		size = base + resident_random(state) % base;
	} while (size < s->low || size > s->high);
	return size;
}

/* How many blocks are bytes in all, at least two; written to size if given. */
static size_t plan_count(const struct sizes *s, uint64_t seed, size_t bytes,
			 uint32_t *size)
{
	uint64_t state = seed;
	size_t total = 0;
	size_t n;

	for (n = 0; n < 2 || total < bytes; n++) {
		size_t one = plan_size(s, &state);

		if (size != NULL)
			size[n] = (uint32_t)one;
		total += one;
	}
	return n;
}

static bool plan_keeps(enum order order, size_t i, size_t count,
		       uint64_t *state)
{
	switch (order) {
	case EIGHTH:
		return resident_random(state) % 8 == 0;
	case SIXTYFOURTH:
		return resident_random(state) % 64 == 0;
	case QUARTER:
		return i >= count / 2 && i < count / 2 + count / 4;
	default:
		return order == NONE;
	}
}

static void plan_shuffle(uint32_t *turn, size_t count, uint64_t *state)
{
	for (; count > 1; count--) {
		size_t at = resident_random(state) % count;
		uint32_t other = turn[at];

		turn[at] = turn[count - 1];
		turn[count - 1] = other;
	}
}

static void plan_turns(struct part *p, enum order order, uint64_t *state)
{
	size_t half = (p->count + 1) / 2;
	size_t n = 0;
	size_t i;

	for (i = 0; i < p->count; i++) {
		if (plan_keeps(order, i, p->count, state))
			continue;
		if (order == BACKWARD)
			p->turn[n++] = (uint32_t)(p->count - 1 - i);
		else if (order == SECOND)
			p->turn[n++] =
				(uint32_t)(i < half ? 2 * i
						    : 2 * (i - half) + 1);
		else
			p->turn[n++] = (uint32_t)i;
	}
	p->victims = n;
	if (order == RANDOM)
		plan_shuffle(p->turn, n, state);
}

static void plan(const struct sizes *s, enum order order, enum who who)
{
	uint64_t state = 88172645463325252u;
	size_t i;

	part_count = who == ASLEEP || who == OWN || who == SWAP ||
				     who == TURNS ||
				     who == EXITED ?
			     THREADS : 1;
	for (i = 0; i < part_count; i++) {
		struct part *p = &parts[i];
		uint64_t seed = resident_random(&state) | 1;

		p->who = who;
		p->count = plan_count(s, seed, volume / part_count, NULL);
		p->size = resident_table(p->count * sizeof(*p->size));
		p->turn = resident_table(p->count * sizeof(*p->turn));
		p->blocks = resident_table(p->count * sizeof(*p->blocks));
		plan_count(s, seed, volume / part_count, p->size);
		plan_turns(p, order, &state);
	}
}

/* --- what threads do to a part --- */

static void idle(struct part *p)
{
	(void)p;
}

static void fill(struct part *p)
{
	size_t i;

	for (i = 0; i < p->count; i++) {
		p->blocks[i] = front_malloc(p->size[i]);
		if (p->blocks[i] == NULL)
			resident_fail("no memory");
		memset(p->blocks[i], (int)(i % 251 + 1), p->size[i]);
	}
}

static void empty(struct part *p)
{
	size_t i;

	for (i = 0; i < p->victims; i++) {
		front_free(p->blocks[p->turn[i]]);
		p->blocks[p->turn[i]] = NULL;
	}
}

static void empty_some(struct part *p)
{
	size_t i;

	for (i = 0; i < p->victims; i += 75) {
		front_free(p->blocks[p->turn[i]]);
		p->blocks[p->turn[i]] = NULL;
	}
}

static void empty_next(struct part *p)
{
	empty(p + 1 == parts + THREADS ? parts : p + 1);
}

static void bounce(struct part *p)
{
	struct timespec pause = {.tv_nsec = 30000000};
	size_t i;
	int round;

	for (round = 1; round < ROUNDS; round++) {
		fill(p);
		for (i = 0; i < p->count; i++)
			front_free(p->blocks[i]);
		if (p->who == TURNS)
			nanosleep(&pause, NULL);
	}
	fill(p);
}

static void shrink(struct part *p)
{
	size_t i;

	for (i = 0; i < p->count; i++) {
		p->size[i] = p->size[i] / 8;
		p->blocks[i] = front_realloc(p->blocks[i], p->size[i]);
		if (p->blocks[i] == NULL)
			resident_fail("no memory to shrink");
	}
}

/* What is live is what was written; then it goes. */
static void verify(struct part *p)
{
	size_t i;
	size_t at;

	for (i = 0; i < p->count; i++) {
		if (p->blocks[i] == NULL)
			continue;
		for (at = 0; at < p->size[i]; at++)
			if (p->blocks[i][at] != (char)(i % 251 + 1))
				resident_fail("a live block has changed");
		front_free(p->blocks[i]);
	}
}

/* --- threads that sleep between their jobs --- */

static struct {
	pthread_mutex_t lock;
	pthread_cond_t changed;
	void (*job)(struct part *); /* NULL: to end */
	int generation;
	size_t busy;
	size_t count;
	pthread_t threads[THREADS];
} team = {.lock = PTHREAD_MUTEX_INITIALIZER,
	  .changed = PTHREAD_COND_INITIALIZER};

static void *team_main(void *arg)
{
	void (*job)(struct part *);
	int seen = 0;

	do {
		pthread_mutex_lock(&team.lock);
		while (team.generation == seen)
			pthread_cond_wait(&team.changed, &team.lock);
		seen = team.generation;
		job = team.job;
		pthread_mutex_unlock(&team.lock);
		if (job != NULL)
			job(arg);
		pthread_mutex_lock(&team.lock);
		team.busy--;
		pthread_cond_broadcast(&team.changed);
		pthread_mutex_unlock(&team.lock);
	} while (job != NULL);
	return NULL;
}

static void team_do(void (*job)(struct part *))
{
	pthread_mutex_lock(&team.lock);
	team.job = job;
	team.generation++;
	team.busy = team.count;
	pthread_cond_broadcast(&team.changed);
	while (team.busy != 0)
		pthread_cond_wait(&team.changed, &team.lock);
	pthread_mutex_unlock(&team.lock);
}

static void team_open(size_t count)
{
	for (; team.count < count; team.count++)
		if (pthread_create(&team.threads[team.count], NULL, team_main,
				   &parts[team.count]) != 0)
			resident_fail("pthread_create");
	/* They sleep after it, their stacks touched. */
	team_do(idle);
}

static void team_close(void)
{
	size_t i;

	team_do(NULL);
	for (i = 0; i < team.count; i++)
		pthread_join(team.threads[i], NULL);
	team.count = 0;
}

/* --- a case --- */

static void all_parts(void (*job)(struct part *))
{
	size_t i;

	for (i = 0; i < part_count; i++)
		job(&parts[i]);
}

static void allocate(enum who who)
{
	switch (who) {
	case BOUNCE:
		all_parts(bounce);
		break;
	case TURNS:
		team_do(bounce);
		break;
	case SELF:
	case SHRINK:
		all_parts(fill);
		break;
	default:
		team_do(fill);
	}
	if (who == EXITED)
		team_close();
}

static void release(enum who who)
{
	switch (who) {
	case OWN:
	case TURNS:
		team_do(empty);
		break;
	case BOTH:
		all_parts(empty_some);
		team_do(empty);
		break;
	case SWAP:
		team_do(empty_next);
		break;
	case SHRINK:
		all_parts(shrink);
		all_parts(empty);
		break;
	default:
		all_parts(empty);
	}
}

static size_t live_pages(void)
{
	struct resident_pages pages;
	size_t i;
	size_t k;

	resident_pages_open(&pages);
	for (k = 0; k < part_count; k++)
		for (i = 0; i < parts[k].count; i++)
			if (parts[k].blocks[i] != NULL)
				resident_pages_add(&pages, parts[k].blocks[i],
						   parts[k].size[i]);
	resident_pages_close(&pages);
	return pages.count << pages.shift;
}

/* RSS, once it is what is allowed, or when the time is up. */
static size_t wait_for(size_t allowed, int *ms)
{
	struct timespec step = {.tv_nsec = 20000000};
	size_t rss = resident_row("Rss:");

	for (*ms = 0; rss > allowed && *ms < PATIENCE_MS; *ms += 20) {
		nanosleep(&step, NULL);
		rss = resident_row("Rss:");
	}
	return rss;
}

/* Late or never after the frees; after the trim. */
static const char *const verdicts[2][2] = {{"ok", "TRIM"}, {"OVER", "BOTH"}};

/* Whether the case held. */
static bool run(const struct sizes *s, enum order order, enum who who,
		const char *name)
{
	size_t base, peak, after, trimmed, live, allowed;
	const char *verdict;
	int ms;

	plan(s, order, who);
	if (who != SELF && who != BOUNCE && who != SHRINK)
		team_open(part_count);
	base = resident_row("Rss:");
	allocate(who);
	peak = resident_row("Rss:");
	release(who);
	live = live_pages();
	allowed = base + live + live / 100 * 12 + SLACK;
	after = wait_for(allowed, &ms);
	front_trim();
	trimmed = resident_row("Rss:");
	verdict = verdicts[after > allowed][trimmed > allowed];
	dprintf(STDOUT_FILENO, "%-26s %8zu %8zu %8zu %5d %8zu %8zu %8zu %s\n",
		name, base >> 10, peak >> 10, after >> 10, ms, trimmed >> 10,
		live >> 10, allowed >> 10, verdict);
	all_parts(verify);
	return after <= allowed && trimmed <= allowed;
}

static bool is_possible(enum order order, enum who who)
{
	/* What is live stands where larger blocks were: pages of nobody's. */
	if (who == TURNS && order > SECOND)
		return false;
	if (order == NONE && who != SHRINK)
		return false;
	return FRONT_THREADS || who == SELF || who == BOUNCE || who == SHRINK;
}

static bool run_apart(const struct sizes *s, enum order order, enum who who,
		      const char *name)
{
	int status = 0;
	pid_t child = fork();

	if (child < 0)
		resident_fail("fork");
	if (child == 0)
		_exit(!run(s, order, who, name));
	while (waitpid(child, &status, 0) < 0)
		continue;
	if (!WIFEXITED(status) || WEXITSTATUS(status) > 1)
		dprintf(STDOUT_FILENO, "%-26s FAILED: status %#x\n", name,
			(unsigned int)status);
	return status == 0;
}

/* --- the command line --- */

struct tally {
	bool list;
	unsigned int ran;
	unsigned int failed;
};

static void run_matching(const char *pattern, struct tally *tally)
{
	char name[64];
	unsigned int i;

	for (i = 0; i < SIZES * ORDERS * WHOS; i++) {
		const struct sizes *s = &sizes[i / WHOS / ORDERS];
		enum order order = (enum order)(i / WHOS % ORDERS);
		enum who who = (enum who)(i % WHOS);

		if (!is_possible(order, who))
			continue;
		snprintf(name, sizeof(name), "%s/%s/%s", s->name,
			 order_names[order], who_names[who]);
		if (fnmatch(pattern, name, 0) != 0)
			continue;
		tally->ran++;
		if (tally->list)
			dprintf(STDOUT_FILENO, "%s\n", name);
		else
			tally->failed += !run_apart(s, order, who, name);
	}
}

int main(int argc, char **argv)
{
	struct tally tally = {0};
	size_t i;
	int at = 1;

	if (at + 1 < argc && strcmp(argv[at], "-v") == 0) {
		volume = (size_t)strtoul(argv[at + 1], NULL, 10) * 1000000;
		at += 2;
	}
	front_open();
	tally.list = at < argc && strcmp(argv[at], "--list") == 0;
	if (!tally.list)
		dprintf(STDOUT_FILENO, "%-26s %8s %8s %8s %5s %8s %8s %8s\n",
			"case", "before", "full", "after", "ms", "trim", "live",
			"allowed");
	if (tally.list || (at < argc && strcmp(argv[at], "--all") == 0))
		run_matching("*", &tally);
	else if (at == argc)
		for (i = 0; i < sizeof(selection) / sizeof(*selection); i++)
			run_matching(selection[i], &tally);
	else
		for (; at < argc; at++)
			run_matching(argv[at], &tally);
	if (!tally.list)
		dprintf(STDOUT_FILENO, "%u cases, %u failed\n", tally.ran,
			tally.failed);
	return tally.failed != 0 || tally.ran == 0;
}
