/* SPDX-License-Identifier: MIT */
/*
 * sequence.c - what the sequences of the differential test are made of.
 *
 * A profile is a row of weights, one per call, and a function that draws
 * sizes. Whether a slot is used is followed here as if every call succeeded;
 * where one fails, the later step on that slot acts on NULL or is left out.
 */
#include "sequence.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define THRESHOLD 131072
#define META 32
#define MEGA ((size_t)1 << 20)

struct draw {
	uint64_t state;
	size_t page;
	size_t last; /* the size drawn before */
};

struct profile {
	const char *name;
	size_t (*size)(struct draw *d);
	unsigned char weight[CALL_COUNT];
	unsigned slots;  /* at most; half of them are live on average */
	unsigned steps;  /* at most */
	unsigned refuse; /* one step in so many; 0: never */
	bool auto_mode;
};

static uint64_t draw_bits(struct draw *d)
{
	uint64_t z = d->state += UINT64_C(0x9e3779b97f4a7c15);

	z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
	z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
	return z ^ (z >> 31);
}

static size_t below(struct draw *d, size_t n)
{
	return (size_t)(draw_bits(d) % n);
}

static size_t between(struct draw *d, size_t low, size_t high)
{
	return low + below(d, high - low + 1);
}

/* Sizes. */

static size_t size_small(struct draw *d)
{
	return between(d, 0, 256);
}

/* Few distinct sizes of very different magnitude: holes and equal fits. */
static size_t size_fragments(struct draw *d)
{
	static const unsigned short sizes[] = {8,   16,  24,   40,   64,
					       104, 200, 1000, 4000, 12000};

	return sizes[below(d, sizeof(sizes) / sizeof(sizes[0]))];
}

/* Around the limits, and around what is left of the block drawn before. */
static size_t size_edges(struct draw *d)
{
	size_t near = below(d, 97);

	switch (below(d, 8)) {
	case 0:
		return THRESHOLD - META - 48 + near;
	case 1:
		return THRESHOLD - META - 16 + below(d, 24);
	case 2:
		return d->page - META - 48 + near;
	case 3:
		return below(d, 50);
	case 4:
		return d->last > 96 ? d->last - near : near;
	case 5:
		return d->last < THRESHOLD ? d->last + near : near;
	case 6:
		return d->last < THRESHOLD ? d->last / 2 : near;
	default:
		return between(d, 1, 3000);
	}
}

static size_t size_big(struct draw *d)
{
	if (below(d, 4) == 0)
		return between(d, 1, 5000);
	return between(d, THRESHOLD - 4096, 300000);
}

static size_t size_page(struct draw *d)
{
	if (below(d, 3) == 0)
		return between(d, 1, d->page * 2);
	return d->page - META - 48 + below(d, 97);
}

/*
 * Too big for anybody. What just the kernel refuses is for 64 bits only: with
 * 32 some of it would succeed, and the test would fill it. Sizes that exceed
 * PTRDIFF_MAX only with their header are left out: the contract is silent on
 * who refuses them.
 */
static size_t size_huge(struct draw *d)
{
	switch (below(d, sizeof(size_t) == 8 ? 4 : 2)) {
	case 0:
		return SIZE_MAX - below(d, 200);
	case 1:
		return (size_t)PTRDIFF_MAX + 1 + below(d, 200);
	case 2:
		return SIZE_MAX / between(d, 3, 9);
	default:
		return (size_t)PTRDIFF_MAX - MEGA - below(d, 200);
	}
}

static size_t size_mixed(struct draw *d)
{
	switch (below(d, 16)) {
	case 0:
		return size_big(d);
	case 1:
	case 2:
	case 3:
		return size_edges(d);
	case 4:
		return size_page(d);
	case 5:
	case 6:
	case 7:
	case 8:
		return size_fragments(d);
	default:
		return size_small(d);
	}
}

/*
 * The weights: malloc calloc realloc reallocarray free free_sized
 * aligned_alloc memalign posix_memalign realloc-of-a-freed-block sbrk.
 */
static const struct profile profiles[] = {
	{.name = "small sizes",
	 .size = size_small,
	 .slots = 160,
	 .steps = 3000,
	 .weight = {10, 1, 2, 0, 9, 1, 0, 0, 0, 1, 0}},
	{.name = "fragmentation",
	 .size = size_fragments,
	 .slots = 160,
	 .steps = 3000,
	 .weight = {10, 0, 1, 0, 9, 1, 0, 0, 0, 1, 0}},
	{.name = "thresholds and split edges",
	 .size = size_edges,
	 .slots = 40,
	 .steps = 1000,
	 .weight = {8, 2, 4, 1, 8, 1, 1, 0, 0, 1, 0}},
	{.name = "big mappings",
	 .size = size_big,
	 .slots = 12,
	 .steps = 200,
	 .weight = {8, 1, 4, 0, 8, 1, 1, 0, 0, 0, 0}},
	{.name = "realloc",
	 .size = size_mixed,
	 .slots = 64,
	 .steps = 1500,
	 .weight = {3, 1, 16, 2, 3, 1, 0, 0, 0, 2, 0}},
	{.name = "calloc around the page",
	 .size = size_page,
	 .slots = 40,
	 .steps = 1000,
	 .weight = {2, 12, 3, 0, 8, 1, 0, 0, 0, 1, 0}},
	{.name = "aligned",
	 .size = size_mixed,
	 .slots = 64,
	 .steps = 1500,
	 .weight = {3, 1, 3, 0, 6, 3, 5, 3, 4, 1, 0}},
	{.name = "foreign sbrk",
	 .size = size_mixed,
	 .slots = 64,
	 .steps = 1500,
	 .weight = {8, 1, 6, 1, 6, 1, 1, 1, 1, 1, 3}},
	{.name = "refused brk and mmap",
	 .size = size_edges,
	 .slots = 40,
	 .steps = 1000,
	 .refuse = 5,
	 .weight = {8, 2, 6, 1, 8, 1, 1, 1, 1, 1, 0}},
	{.name = "all mixed",
	 .size = size_mixed,
	 .slots = 160,
	 .steps = 3000,
	 .refuse = 16,
	 .weight = {8, 2, 6, 1, 8, 2, 1, 1, 1, 1, 1}},
	{.name = "mode auto, first calls",
	 .size = size_mixed,
	 .slots = 40,
	 .steps = 60,
	 .auto_mode = true,
	 .weight = {8, 2, 6, 1, 8, 2, 1, 1, 1, 1, 0}},
};

unsigned sequence_profiles(void)
{
	return sizeof(profiles) / sizeof(profiles[0]);
}

const char *sequence_profile_name(const struct sequence *s)
{
	return s->profile->name;
}

static enum call draw_call(struct draw *d, const struct profile *p)
{
	unsigned sum = 0, i;
	size_t at;

	for (i = 0; i < CALL_COUNT; i++)
		sum += p->weight[i];
	at = below(d, sum);
	for (i = 0; at >= p->weight[i]; i++)
		at -= p->weight[i];
	return (enum call)i;
}

static bool call_allocates(enum call call)
{
	return call == CALL_MALLOC || call == CALL_CALLOC ||
	       call == CALL_ALIGNED_ALLOC || call == CALL_MEMALIGN ||
	       call == CALL_POSIX_MEMALIGN;
}

static bool call_frees(enum call call)
{
	return call == CALL_FREE || call == CALL_FREE_SIZED;
}

static size_t draw_alignment(struct draw *d, enum call call)
{
	size_t a = (size_t)1 << between(d, 0, below(d, 4) == 0 ? 16 : 9);

	if (call == CALL_MEMALIGN)
		return a + (a > 2 ? below(d, 2) : 0);
	if (below(d, 50) == 0)
		return a + a / 2;
	return a;
}

/* Distances of somebody else's sbrk: pages, a few bytes, back again. */
static void draw_sbrk(struct draw *d, struct step *s)
{
	s->k = below(d, 5) < 2;
	if (s->k == 1)
		s->n = below(d, 2) ? SIZE_MAX : between(d, 1, 5000);
	else if (below(d, 2))
		s->n = between(d, 1, 100);
	else
		s->n = between(d, 1, 3) * d->page;
}

static void draw_size(struct draw *d, const struct profile *p, struct step *s)
{
	s->n = d->last = p->size(d);
	if (below(d, 200) == 0)
		s->n = size_huge(d);
	if (s->call == CALL_CALLOC || s->call == CALL_REALLOCARRAY) {
		s->k = 1;
		if (s->n <= PTRDIFF_MAX && below(d, 2))
			s->k = between(d, 1, 64);
		else if (below(d, 100) == 0)
			s->k = below(d, 4);
		s->n = (s->n + s->k - (s->k != 0)) / (s->k ? s->k : 1);
		if (s->n > 1 && below(d, 300) == 0)
			s->k = SIZE_MAX / s->n + below(d, 2);
	}
}

static void draw_step(struct draw *d, const struct profile *p, struct step *s,
		      unsigned slots, bool *used)
{
	*s = (struct step){.call = draw_call(d, p)};
	s->slot = (unsigned)below(d, slots);
	if (p->refuse != 0 && below(d, p->refuse) == 0)
		s->refuse = (unsigned)between(d, 1, 7);
	if (s->call == CALL_SBRK) {
		draw_sbrk(d, s);
		return;
	}
	if (call_allocates(s->call) && used[s->slot])
		s->call = CALL_FREE;
	else if (call_frees(s->call) && !used[s->slot] && below(d, 20) != 0)
		s->call = CALL_MALLOC;
	draw_size(d, p, s);
	if (s->call >= CALL_ALIGNED_ALLOC && s->call <= CALL_POSIX_MEMALIGN)
		s->k = draw_alignment(d, s->call);
	if (s->call == CALL_REALLOC_FREED)
		s->n = s->n % THRESHOLD + 1;
	else
		used[s->slot] = !call_frees(s->call) && s->n != 0;
}

void sequence_generate(struct sequence *s, unsigned profile, uint64_t seed)
{
	const struct profile *p = &profiles[profile];
	struct draw d = {.state = seed};
	bool used[SEQUENCE_SLOTS] = {false};
	unsigned slots, i;

	d.page = (size_t)sysconf(_SC_PAGESIZE);
	slots = (unsigned)between(&d, 1 + below(&d, p->slots / 4), p->slots);
	s->profile = p;
	s->auto_mode = p->auto_mode;
	s->start = below(&d, 16) * d.page;
	if (p->weight[CALL_SBRK] != 0 && below(&d, 4) == 0)
		s->start += below(&d, 100);
	s->check_every = (unsigned)between(&d, 1, 32);
	s->count = (unsigned)between(&d, p->steps / 4, p->steps);
	for (i = 0; i < s->count; i++)
		draw_step(&d, p, &s->steps[i], slots, used);
}

static int print_call(const struct step *s, char *buf, size_t size)
{
	unsigned p = s->slot;

	switch (s->call) {
	case CALL_MALLOC:
		return snprintf(buf, size, "p%u = os_malloc(%zu)", p, s->n);
	case CALL_CALLOC:
		return snprintf(buf, size, "p%u = os_calloc(%zu, %zu)", p, s->k,
				s->n);
	case CALL_REALLOC:
		return snprintf(buf, size, "p%u = os_realloc(p%u, %zu)", p, p,
				s->n);
	case CALL_REALLOCARRAY:
		return snprintf(buf, size,
				"p%u = os_reallocarray(p%u, %zu, %zu)", p, p,
				s->k, s->n);
	case CALL_FREE:
		return snprintf(buf, size, "os_free(p%u)", p);
	case CALL_FREE_SIZED:
		return snprintf(buf, size, "os_free_sized(p%u, as asked)", p);
	case CALL_ALIGNED_ALLOC:
		return snprintf(buf, size, "p%u = os_aligned_alloc(%zu, %zu)",
				p, s->k, s->n);
	case CALL_MEMALIGN:
		return snprintf(buf, size, "p%u = os_memalign(%zu, %zu)", p,
				s->k, s->n);
	case CALL_POSIX_MEMALIGN:
		return snprintf(buf, size, "os_posix_memalign(&p%u, %zu, %zu)",
				p, s->k, s->n);
	case CALL_REALLOC_FREED:
		return snprintf(buf, size, "os_realloc(freed p%u, %zu)", p,
				s->n);
	default:
		if (s->k == 1 && s->n == SIZE_MAX)
			return snprintf(buf, size, "sbrk(- all of it)");
		return snprintf(buf, size, "sbrk(%s%zu)", s->k ? "-" : "",
				s->n);
	}
}

void sequence_print_step(const struct step *s, char *buf, size_t size)
{
	int length = print_call(s, buf, size);

	if (s->refuse == 0 || length < 0 || (size_t)length >= size)
		return;
	snprintf(buf + length, size - (size_t)length, "  [refused:%s%s%s]",
		 s->refuse & REFUSE_BRK_1 ? " 1st brk" : "",
		 s->refuse & REFUSE_BRK_2 ? " 2nd brk" : "",
		 s->refuse & REFUSE_MAP ? " mmap" : "");
}
