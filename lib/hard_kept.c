/* SPDX-License-Identifier: MIT */
/*
 * hard_kept.c - the hardened allocator's freed mappings, until they are used
 * again or unmapped.
 *
 * One that is retired keeps record and address space, but no memory and no
 * access, until chance and a queue have passed it on; then it waits for a block
 * of its size. That is what becomes of each, until there have been so many
 * that it is the program's habit. From then on chance chooses those, and the
 * others stay warm: they have only their first bytes cleared, which are
 * verified when they leave the queue again.
 *
 * Guarded by the core's lock, which is not held around system calls.
 */
#include "hard_state.h"

#include "die.h"
#include "sys.h"

enum {
	KEPT_MOST = 128,  /* retired ones, at most */
	KEPT_CHANCE = 32, /* of these, at random places */
	KEPT_SPARE = 16,  /* that wait for a block behind the queue */
	KEPT_WARM = 32,
	KEPT_NEW = 4,	     /* of these, freed too late to be used */
	KEPT_FIRST = 256,    /* are retired, all of them */
	KEPT_ONE_OF = 1024   /* later ones */
};

#define KEPT_BYTES ((size_t)(sizeof(void *) == 8 ? 1024 : 32) << 20)
#define KEPT_WARM_BYTES ((size_t)8 << 20)

static struct {
	struct hard_map *retired[KEPT_MOST]; /* chance, then the queue */
	size_t first;			     /* the oldest of the queue */
	size_t bytes;
	struct hard_map *spare[KEPT_SPARE];
	size_t next_spare; /* whose place the next one takes */
	struct hard_map *warm[KEPT_WARM]; /* the oldest first */
	size_t count_warm;
	size_t bytes_warm;
	unsigned int left; /* of the first ones */
	unsigned long frees;
	bool limited;		/* address space, when last asked */
	struct hard_map *stuck; /* not to be unmapped: used, or tried again */
	struct hard_random random;
} kept_all = { .left = KEPT_FIRST };

void osmem_hard_maps_seed(void)
{
	osmem_hard_seed(&kept_all.random);
}

/* --- retired ones --- */

/* The record that leaves for this one; it may be itself. Lock. */
static struct hard_map *kept_keep(struct hard_map *m)
{
	size_t i = hard_draw(&kept_all.random, KEPT_CHANCE);
	struct hard_map *out = kept_all.retired[i];

	kept_all.retired[i] = m;
	kept_all.bytes += m->whole;
	if (out != NULL) {
		i = kept_all.first + KEPT_CHANCE;
		m = out;
		out = kept_all.retired[i];
		kept_all.retired[i] = m;
		kept_all.first = (kept_all.first + 1) %
				 (KEPT_MOST - KEPT_CHANCE);
	}
	if (out != NULL)
		kept_all.bytes -= out->whole;
	return out;
}

/* Another, when all together are too large: the oldest, not the last. Lock. */
static struct hard_map *kept_surplus(const struct hard_map *last)
{
	struct hard_map *out = NULL;
	size_t i;

	if (kept_all.bytes <= KEPT_BYTES)
		return NULL;
	for (i = 0; i < KEPT_MOST && out == NULL; i++) {
		size_t at = (kept_all.first + KEPT_CHANCE + i) % KEPT_MOST;

		if (kept_all.retired[at] == last)
			continue;
		out = kept_all.retired[at];
		kept_all.retired[at] = NULL;
	}
	if (out != NULL)
		kept_all.bytes -= out->whole;
	return out;
}

/* What is refused is tried again with the next one. Lock. */
static void kept_end(struct hard_map *m)
{
	if (osmem_hard_map_end(m))
		return;
	m->next = kept_all.stuck;
	kept_all.stuck = m;
}

/* One that is through the quarantine waits for a block. Lock. */
static struct hard_map *kept_put_spare(struct hard_map *m)
{
	struct hard_map **place = &kept_all.spare[kept_all.next_spare];
	struct hard_map *out = *place;

	if (!m->guarded)
		return m;
	kept_all.next_spare = (kept_all.next_spare + 1) % KEPT_SPARE;
	*place = m;
	return out;
}

/*
 * Under a limit on address space nothing is kept. That is looked at now and
 * then, as it is a system call; a limit that comes between is found by the
 * mapping that fails.
 */
static bool kept_is_limited(void)
{
	bool limited;

	osmem_lock(&osmem_core_lock);
	if (kept_all.frees++ % 64 == 0)
		kept_all.limited = osmem_sys_space_limit() != SIZE_MAX;
	limited = kept_all.limited;
	osmem_unlock(&osmem_core_lock);
	return limited;
}

static void kept_retire(struct hard_map *m)
{
	bool drop = kept_is_limited() ||
		    KEEP(osmem_sys_drop(m->start, m->whole), "mmap",
			 m->whole) != 0;
	const struct hard_map *last = m;
	struct hard_map *stuck;

	osmem_lock(&osmem_core_lock);
	m->open = m->held = 0;
	m->dirty = drop;
	stuck = kept_all.stuck;
	if (stuck != NULL) {
		kept_all.stuck = stuck->next;
		kept_end(stuck);
	}
	if (!drop)
		m = kept_keep(m);
	if (!drop && m != NULL)
		m = kept_put_spare(m);
	if (m != NULL)
		kept_end(m);
	while ((m = kept_surplus(last)) != NULL)
		kept_end(m);
	osmem_unlock(&osmem_core_lock);
}

void osmem_hard_kept_retire(struct hard_map *m)
{
	struct hard_map *next;

	for (; m != NULL; m = next) {
		next = m->next;
		kept_retire(m);
	}
}

/* The address space of a freed block that is not much too large. Lock. */
static struct hard_map *kept_take_spare(size_t whole)
{
	struct hard_map *m;
	size_t i;

	for (i = 0; i < KEPT_SPARE; i++) {
		m = kept_all.spare[i];
		if (m == NULL || m->whole < whole ||
		    m->whole - whole > whole / 4)
			continue;
		kept_all.spare[i] = NULL;
		return m;
	}
	return NULL;
}

/* What could not be unmapped is kept for reuse (rule 25). Lock. */
static struct hard_map *kept_take_stuck(size_t body)
{
	struct hard_map **link = &kept_all.stuck;
	struct hard_map *m;

	for (; (m = *link) != NULL; link = &m->next)
		if (m->whole >= body + hard_map_guards(m)) {
			*link = m->next;
			break;
		}
	return m;
}

/* --- warm ones --- */

/* As its size it has what was asked for before. Lock. */
static void kept_verify(const struct hard_map *m)
{
	if (unlikely(!osmem_hard_is_zero(m->payload, HARD_ENDS)))
		osmem_report_found((struct osmem_place){
			.found = OSMEM_FOUND_WRITTEN,
			.slot = m->payload,
			.slot_size = m->size });
}

static struct hard_map *kept_remove(size_t i)
{
	struct hard_map *m = kept_all.warm[i];

	kept_verify(m);
	kept_all.count_warm--;
	kept_all.bytes_warm -= m->held;
	for (; i < kept_all.count_warm; i++)
		kept_all.warm[i] = kept_all.warm[i + 1];
	return m;
}

/* Whether it is this one's turn to be retired. Lock. */
static bool kept_retires(void)
{
	if (osmem_option(OSMEM_OPT_HARDEN) > 1)
		return true;
	if (kept_all.left != 0)
		return kept_all.left--, true;
	return hard_draw(&kept_all.random, KEPT_ONE_OF) == 0;
}

/* What all together may hold. Lock. */
static size_t kept_most(void)
{
	size_t most = 2 * osmem_hard_map_bytes();

	return most > KEPT_WARM_BYTES ? most : KEPT_WARM_BYTES;
}

struct hard_map *osmem_hard_kept_put(struct hard_map *m)
{
	size_t most = kept_most();
	struct hard_map *out = NULL;

	m->next = NULL;
	if (!m->guarded || kept_retires() || m->held > most)
		return m;
	while (kept_all.count_warm == KEPT_WARM ||
	       (kept_all.count_warm != 0 &&
		m->held + kept_all.bytes_warm > most)) {
		struct hard_map *oldest = kept_remove(0);

		oldest->next = out;
		out = oldest;
	}
	memset(m->payload, 0, HARD_ENDS);
	m->dirty = true;
	kept_all.warm[kept_all.count_warm++] = m;
	kept_all.bytes_warm += m->held;
	return out;
}

/* How badly a warm one fits; SIZE_MAX: not at all. */
static size_t kept_misfit(const struct hard_map *m, size_t body)
{
	size_t page = osmem_sys_page_size();
	size_t room = (size_t)(m->start + m->whole - m->payload) - page;

	if (m->open == body)
		return 0;
	if (body > room || body < m->held / 4)
		return SIZE_MAX;
	/* What it never had takes page faults. */
	return m->held > body ? m->held - body : 4 * (body - m->held);
}

/* How many were freed too late: where there are few, half of them. Lock. */
static size_t kept_new(void)
{
	size_t half = (kept_all.count_warm + 1) / 2;

	return half < KEPT_NEW ? half : KEPT_NEW;
}

/* The one that fits best, but none of the last ones. Lock. */
static struct hard_map *kept_take_warm(size_t body)
{
	size_t count = kept_all.count_warm - kept_new();
	size_t most = SIZE_MAX;
	size_t at = 0;
	size_t i;

	for (i = 0; i < count && most != 0; i++) {
		size_t misfit = kept_misfit(kept_all.warm[i], body);

		if (misfit >= most)
			continue;
		most = misfit;
		at = i;
	}
	if (most == SIZE_MAX)
		return NULL;
	return kept_remove(at);
}

struct hard_map *osmem_hard_kept_take(size_t body)
{
	struct hard_map *m = kept_take_warm(body);

	if (m == NULL)
		m = kept_take_spare(body + 2 * osmem_sys_page_size());
	if (m == NULL)
		m = kept_take_stuck(body);
	return m;
}

/* --- giving them up --- */

static struct hard_map *kept_any_of(struct hard_map **from, size_t count)
{
	struct hard_map *m = NULL;
	size_t i;

	for (i = 0; i < count && m == NULL; i++) {
		m = from[i];
		from[i] = NULL;
	}
	return m;
}

bool osmem_hard_kept_trim(void)
{
	struct hard_map *m;
	bool any = false;

	do {
		osmem_lock(&osmem_core_lock);
		m = kept_all.count_warm != 0 ? kept_remove(0) : NULL;
		osmem_unlock(&osmem_core_lock);
		if (m != NULL)
			kept_retire(m);
		any |= m != NULL;
	} while (m != NULL);
	return any;
}

bool osmem_hard_kept_give_up(void)
{
	struct hard_map *m;
	bool any = osmem_hard_kept_trim();

	osmem_lock(&osmem_core_lock);
	while ((m = kept_any_of(kept_all.retired, KEPT_MOST)) != NULL ||
	       (m = kept_any_of(kept_all.spare, KEPT_SPARE)) != NULL) {
		kept_end(m);
		any = true;
	}
	kept_all.bytes = 0;
	osmem_unlock(&osmem_core_lock);
	return any;
}
