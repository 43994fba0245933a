/* SPDX-License-Identifier: MIT */
/*
 * hard_state.h - what the files of the hardened allocator share, and nobody
 * else sees.
 *
 * A slot is live, or free in exactly one place: a thread's quarantine or its
 * bin of ready slots (hard.c), or its slab's bitmap, or not carved yet
 * (hard_slabs.c). In all of them it is all zero.
 */
#ifndef OSMEM_HARD_STATE_H
#define OSMEM_HARD_STATE_H

#include "class.h"
#include "hard.h"
#include "lock.h"
#include "sys.h"

#include <string.h>

#define HARD_UNIT_SHIFT 16
#define HARD_UNIT ((size_t)1 << HARD_UNIT_SHIFT)

enum {
	HARD_NOTHING = NUM_CLASSES, /* the class of blocks of no bytes */
	HARD_CLASSES,
	HARD_CANARY = 8,
	HARD_WORDS = HARD_UNIT / 16 / 64,
	/* So many share a unit, or else two. */
	HARD_DENSE = 8192,
	/* Slots above have a slab, and so guard pages, of their own. */
	HARD_SHARED = 32768,
	/* Slots above are cleared by a call. */
	HARD_SMALL = 256,
	/* Slots above are not cleared and verified whole each time. */
	HARD_WHOLE = 1024,
	HARD_MOST = HARD_WHOLE - HARD_CANARY, /* that is in one of these */
	/* Of these, so many bytes at the start always, and behind the canary */
	HARD_ENDS = 64
};

#define HARD_LARGEST (OSMEM_MMAP_THRESHOLD - HARD_CANARY)

/*
 * The word that says what a slot is. LIVE: the size that was asked for and the
 * logarithm of the alignment are in it, and canary and zeros are in place.
 * BUSY: somebody is just changing it. Neither: free, and all zero. But DIRTY:
 * when it was freed, only its first HARD_ENDS bytes were cleared. The number
 * in TURN grows with each free, so who sees the same word twice knows that
 * nothing happened between; it is 0 only before the first.
 *
 * It becomes LIVE, or free, with release; a free claims it by acquire, and by
 * compare-and-swap once there are threads: of two frees one fails.
 */
enum {
	HARD_SIZE = 0x1ffff,
	HARD_TURN_SHIFT = 17,
	HARD_TURN = 0xff << HARD_TURN_SHIFT,
	HARD_LOG_SHIFT = 25,
	HARD_LOG = 0xf << HARD_LOG_SHIFT,
	HARD_LOG_LEAST = 4,
	HARD_DIRTY = 1 << 29,
	HARD_BUSY = 1 << 30
};

#define HARD_LIVE (UINT32_C(1) << 31)

typedef _Atomic(uint32_t) hard_word;

/*
 * Of the slab that starts with a unit. What is not atomic is set before the
 * slab's first slot is handed out, or under its class's lock.
 */
struct hard_slab {
	/* The slab that the unit is in; written once, read with acquire. */
	_Atomic(struct hard_slab *) head;
	char *start;
	hard_word *words; /* a word for each slot */
	uint32_t magic;	  /* 2^32 / size + 1: see osmem_hard_slot */
	uint32_t size;	  /* of a slot */
	uint32_t slots;
	/* Slots ever handed out, since the slab was empty. Relaxed. */
	_Atomic(uint32_t) carved;
	uint32_t free; /* bits that are set */
	hard_word only;
	uint8_t class;
	uint8_t state;	/* hard_slabs.c's */
	bool listed;
	uint16_t units;
	struct hard_slab *prev;
	struct hard_slab *next;
	uint64_t bits[HARD_WORDS]; /* the free slots that no thread has */
} __attribute__((aligned(64)));

/*
 * base and the tables are set once, before limit becomes other than 0. limit:
 * so many bytes have records; written with release, read with acquire.
 */
struct hard_region {
	char *base;
	struct hard_slab *records;
	hard_word *words; /* HARD_UNIT / 16 for each unit */
	atomic_size_t limit;
	size_t reserved;
	atomic_size_t bytes; /* of slabs; relaxed */
	uint64_t canary; /* the process's secret */
	/* Guards in use, and whether there shall be no more. Relaxed. */
	atomic_size_t guards;
	atomic_bool unguarded;
	atomic_bool refused; /* there was no address space */
};

OSMEM_VAR struct hard_region osmem_hard_region;

/*
 * Each guard costs two entries of the 65,530 that the system's table of
 * mappings has by default. The program shall have some, too.
 */
enum { HARD_GUARDS = 20000 };

/* So many guards come or go. Whether there may be more. */
static inline bool hard_guard(int by)
{
	struct hard_region *r = &osmem_hard_region;
	size_t before = atomic_load_explicit(&r->guards, memory_order_relaxed);

	if (by != 0)
		before = atomic_fetch_add_explicit(&r->guards, (size_t)by,
						   memory_order_relaxed);
	return before < HARD_GUARDS &&
	       !atomic_load_explicit(&r->unguarded, memory_order_relaxed);
}

/* Random numbers for one thread, or under one lock. */
struct hard_random {
	uint64_t a;
	uint64_t b;
};

static inline uint64_t hard_turn_left(uint64_t v, int by)
{
	return (v << by) | (v >> (64 - by));
}

static inline uint32_t hard_draw(struct hard_random *r, uint32_t below)
{
	uint64_t sum = r->a + r->b;
	uint64_t mixed = r->a ^ r->b;

	r->a = hard_turn_left(r->a, 24) ^ mixed ^ (mixed << 16);
	r->b = hard_turn_left(mixed, 37);
	return (uint32_t)(((sum >> 32) * below) >> 32);
}

/* From the system: it takes no lock, as a fork may have come under any. */
OSMEM_FN void osmem_hard_seed(struct hard_random *r);

/* --- canaries and zeros --- */

/*
 * The first byte is zero, so that a string without an end finds one; the
 * others never are, so that zeros written there are seen.
 */
static inline uint64_t hard_canary(const void *block)
{
	uint64_t v = osmem_hard_region.canary ^ (uintptr_t)block;

	v = (v * UINT64_C(0x9e3779b97f4a7c15)) ^ osmem_hard_region.canary;
#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
	return (v >> 8) | UINT64_C(0x01010101010101);
#else
	return (v << 8) | UINT64_C(0x0101010101010100);
#endif
}

static inline uint64_t hard_load(const char *p)
{
	uint64_t v;

	memcpy(&v, p, sizeof(v));
	return v;
}

/* Whether [p, p + size) is all zero. */
OSMEM_FN bool osmem_hard_is_zero(const char *p, size_t size);

/* What of the canary reaches into a word that begins so many bytes later. */
static inline uint64_t hard_canary_from(uint64_t canary, size_t bytes)
{
	if (bytes >= HARD_CANARY)
		return 0;
#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
	return canary << 8 * bytes;
#else
	return canary >> 8 * bytes;
#endif
}

/* Whether the bytes behind a canary are zero. */
static inline bool hard_rest_is_zero(const char *p, size_t rest)
{
	if (likely(rest <= 16))
		return (hard_load(p) | hard_load(p + rest - 8)) == 0;
	return osmem_hard_is_zero(p, rest);
}

/*
 * Whether canary and zeros of a live block are in place: all of them, or, of
 * large ones, the first. Behind what is dirty there are none.
 */
static inline __attribute__((always_inline)) bool
hard_holds(const char *p, size_t size, size_t slot, bool dirty)
{
	uint64_t canary = hard_canary(p);
	size_t rest = slot - size - HARD_CANARY;

	if (hard_load(p + size) != canary)
		return false;
	if (unlikely(dirty))
		return true;
	if (rest < HARD_CANARY)
		return hard_load(p + slot - HARD_CANARY) ==
		       hard_canary_from(canary, rest);
	if (slot > HARD_WHOLE && rest > HARD_ENDS)
		rest = HARD_ENDS;
	return hard_rest_is_zero(p + size + HARD_CANARY, rest);
}

/* --- slabs --- */

/* The slab of p, if it has one. */
static inline struct hard_slab *hard_slab_of(const void *p)
{
	struct hard_region *r = &osmem_hard_region;
	size_t offset = (uintptr_t)p - (uintptr_t)r->base;

	/* Pairs with the releases in hard_slabs.c: the record is there. */
	if (offset >= atomic_load_explicit(&r->limit, memory_order_acquire))
		return NULL;
	return atomic_load_explicit(&r->records[offset >> HARD_UNIT_SHIFT].head,
				    memory_order_acquire);
}

/*
 * The number of the slot that starts at p, in slab s; false when none that was
 * ever handed out does. The product is right where offset times size is below
 * 2^32; in a slab of one slot it may be wrong, but not for offset 0.
 */
static inline bool hard_index(const struct hard_slab *s, const void *p,
			      uint32_t *index)
{
	uint32_t offset = (uint32_t)((uintptr_t)p - (uintptr_t)s->start);

	*index = (uint32_t)(((uint64_t)offset * s->magic) >> 32);
	return *index * s->size == offset &&
	       *index < atomic_load_explicit(&s->carved, memory_order_relaxed);
}

/* The alignment's part of the word. */
static inline uint32_t hard_log(size_t alignment)
{
	return ((uint32_t)__builtin_ctzl((unsigned long)alignment) -
		HARD_LOG_LEAST)
	       << HARD_LOG_SHIFT;
}

/* A free slot on its way, and its word. */
struct hard_entry {
	char *slot;
	hard_word *word;
};

/* --- bins --- */

/* Takes free slots back. */
OSMEM_FN void osmem_hard_slabs_give(unsigned int class,
				    const struct hard_entry *entries,
				    uint32_t count);

/*
 * The slots of a class that a thread has: those that are ready, of which the
 * last is the next, those that it has freed last, and those that it had freed
 * before these, which are part or none.
 */
struct hard_bin {
	struct hard_entry *ready;
	struct hard_entry *freed;
	uint32_t count;	     /* ready ones */
	uint32_t count_freed;
	uint32_t part;	     /* the room for freed ones; twice for ready ones */
	uint32_t slot;	     /* bytes */
	struct hard_entry *aged;
	uint32_t count_aged;
	uint32_t fill;	     /* how many are fetched at once */
} __attribute__((aligned(64)));

struct hard_thread {
	struct hard_random random;
	int64_t allowance; /* bytes to be cleared and verified */
	struct hard_thread *next; /* among those without a thread */
	struct hard_bin bins[HARD_CLASSES];
};

OSMEM_VAR __thread struct hard_thread *osmem_hard_self
	__attribute__((tls_model("initial-exec")));

OSMEM_FN OSMEM_COLD struct hard_thread *osmem_hard_attach(void);

/* NULL without memory. */
static inline struct hard_thread *hard_thread(void)
{
	struct hard_thread *t = osmem_hard_self;

	return likely(t != NULL) ? t : osmem_hard_attach();
}

/* The class of a slot of 16 times as many bytes and 16 more. */
OSMEM_VAR uint8_t osmem_hard_classes[(HARD_MOST + HARD_CANARY) / 16];

/* Fetches slots for an empty bin. False without memory. */
OSMEM_FN __attribute__((noinline)) bool
osmem_hard_bin_fill(struct hard_thread *t, unsigned int class);

/* Passes the freed ones on when they are part. */
OSMEM_FN __attribute__((noinline)) void
osmem_hard_bin_age(struct hard_thread *t, unsigned int class);

/* A slot into the quarantine; of a thread without bins, into its slab. */
static inline void hard_bin_put(struct hard_thread *t, unsigned int class,
				char *slot, hard_word *word)
{
	struct hard_bin *bin;
	uint32_t count;

	if (unlikely(t == NULL)) {
		osmem_hard_slabs_give(class, &(struct hard_entry){ slot, word },
				      1);
		return;
	}
	bin = &t->bins[class];
	count = bin->count_freed;
	/* As a whole it would wait for its parts to be written. */
	bin->freed[count].slot = slot;
	bin->freed[count].word = word;
	bin->count_freed = ++count;
	if (unlikely(count == bin->part))
		osmem_hard_bin_age(t, class);
}

/*
 * Whether a slot of so many bytes, more than HARD_WHOLE, is to be cleared as a
 * whole, when it is freed: that is paid for.
 */
OSMEM_FN bool osmem_hard_affords(struct hard_thread *t, size_t size);

/* Empties the calling thread's bins of what is ready. */
OSMEM_FN void osmem_hard_bins_trim(void);

/* --- places of slabs --- */

/* Makes the region, once. False when there is no address space for it. */
OSMEM_FN bool osmem_hard_slabs_open(void);

/* Up to most free slots of a class, at least one but without memory. */
OSMEM_FN uint32_t osmem_hard_slabs_take(unsigned int class,
					struct hard_entry *entries,
					uint32_t most, struct hard_random *r);

OSMEM_FN bool osmem_hard_slabs_trim(void);

/* Unmaps address space that is not used yet. Whether there was any. */
OSMEM_FN bool osmem_hard_slabs_release_spare(void);
OSMEM_FN void osmem_hard_slabs_before_fork(void);
OSMEM_FN void osmem_hard_slabs_after_fork(bool child);

/* What p, in one of the slab's units, is. */
OSMEM_FN struct osmem_place osmem_hard_locate_slot(const struct hard_slab *s,
						   const void *ptr);

/* Whether the word says that the slot is whole; others may be using it. */
OSMEM_FN bool osmem_hard_is_whole(const struct hard_slab *s, uint32_t index);

/* --- mappings --- */

struct hard_map {
	char *start; /* of the mapping, and its size with guards */
	size_t whole;
	char *payload; /* at the start of a page */
	size_t size;
	size_t open; /* bytes of pages with access; 0 when it was dropped */
	size_t held; /* that had access since then, and may have memory */
	size_t alignment;
	bool guarded;
	bool live;
	bool dirty; /* what is behind the first bytes is not known */
	struct hard_map *next; /* among records without use, or in a list */
};

/* The pages of the payload. */
static inline size_t hard_map_body(size_t size)
{
	return osmem_up(size + (size == 0), osmem_sys_page_size());
}

/* Bytes without access, on both sides. */
static inline size_t hard_map_guards(const struct hard_map *m)
{
	return m->guarded ? 2 * osmem_sys_page_size() : 0;
}

/* As much of the canary as the last page has room for. */
static inline size_t hard_map_slack(const struct hard_map *m)
{
	return hard_map_body(m->size) - m->size;
}

static inline void hard_map_write_canary(const struct hard_map *m)
{
	uint64_t canary = hard_canary(m->payload);
	size_t room = hard_map_slack(m);

	if (room != 0)
		memcpy(m->payload + m->size, &canary,
		       room < HARD_CANARY ? room : HARD_CANARY);
}

static inline bool hard_map_holds(const struct hard_map *m)
{
	uint64_t canary = hard_canary(m->payload);
	const char *end = m->payload + m->size;
	size_t room = hard_map_slack(m);

	/* A look at no bytes takes long where the next page has no access. */
	if (room < HARD_CANARY)
		return room == 0 || memcmp(end, &canary, room) == 0;
	return hard_holds(m->payload, m->size, m->size + room, m->dirty);
}

OSMEM_FN void *osmem_hard_map(size_t size, size_t alignment, bool grows);
OSMEM_FN bool osmem_hard_map_free(const char *call, void *ptr);
OSMEM_FN bool osmem_hard_map_resize(const char *call, const void *ptr,
				    size_t size);
OSMEM_FN bool osmem_hard_map_is_zeroed(const void *ptr);
OSMEM_FN bool osmem_hard_map_is_aligned(const void *ptr, size_t alignment);

/* Ends the process if what is behind the live block is broken. */
OSMEM_FN void osmem_hard_map_verify(const char *call, const void *ptr);

/* These need the core's lock. */
OSMEM_FN struct osmem_place osmem_hard_map_locate(const void *ptr);
OSMEM_FN bool osmem_hard_map_above(const void *p, struct os_block *block);
OSMEM_FN bool osmem_hard_map_holds(const void *ptr);
OSMEM_FN void osmem_hard_map_totals(struct osmem_hard_totals *totals);
OSMEM_FN size_t osmem_hard_map_bytes(void);

/* Unmaps what a record stands for, and forgets it; false if that is refused. */
OSMEM_FN bool osmem_hard_map_end(struct hard_map *m);

/* --- freed mappings --- */

OSMEM_FN void osmem_hard_maps_seed(void);

/*
 * Keeps a freed mapping as it is, or not. A list of what has to be retired,
 * which may be itself, or older ones. Lock.
 */
OSMEM_FN struct hard_map *osmem_hard_kept_put(struct hard_map *m);

/*
 * Takes the memory of all in a list, and all access to it, and keeps them for
 * a while.
 */
OSMEM_FN void osmem_hard_kept_retire(struct hard_map *m);

/* A kept one with room for so many bytes of pages; NULL for none. Lock. */
OSMEM_FN struct hard_map *osmem_hard_kept_take(size_t body);

/* Unmaps all; takes the memory of all. Whether there were any. */
OSMEM_FN bool osmem_hard_kept_give_up(void);
OSMEM_FN bool osmem_hard_kept_trim(void);

#endif
