/* SPDX-License-Identifier: MIT */
/*
 * ops.h - fuzz_ops: the blocks that there are, and what its files share.
 *
 * Blocks carry patterns and are looked at whenever they are touched. One
 * thread at a time works on the table: see ops_do_work().
 */
#ifndef OPS_H
#define OPS_H

#include "fuzz.h"

enum {
	OPS_LIVE = 256,       /* blocks at a time */
	OPS_FREED = 64,       /* pointers that are remembered */
	OPS_BYTES = 40 << 20, /* of all live blocks together */
	OPS_SURE = 64 << 20,  /* up to here there is memory */
};

struct ops_block {
	unsigned char *p; /* NULL: none */
	size_t size;      /* that was asked for */
	size_t usable;
	size_t alignment;
	unsigned char tag;
};

extern struct ops_block ops_live[OPS_LIVE];
extern void *ops_freed[OPS_FREED];
extern bool ops_may_fail; /* requests are refused on purpose */
extern bool ops_passes;   /* what is no block's may be let pass */
extern int ops_mode;
extern const struct ops_block *ops_busy; /* whose call a handler interrupts */

/* The first n bytes of a block; all of n bytes that must be 0. */
void ops_verify(const struct ops_block *b, size_t n);
void ops_verify_zero(const unsigned char *p, size_t n);

bool ops_is_live(const void *p);
bool ops_has_room(size_t n);

/* Whether a request for n bytes has been refused, as it may be. */
bool ops_is_refused(const void *p, size_t n);

/* Enters a new block; what is too large for our bounds goes at once. */
void ops_take(struct ops_block *b, void *p, size_t n, size_t alignment);

/* Remembers a pointer that was freed. */
void ops_remember(void *p);

/* The block is gone from the table, however. */
void ops_forget(struct ops_block *b);

/* A request to resize was refused: rule 20c lets it grow all the same. */
void ops_swell(struct ops_block *b);

/* Frees the block, if there is one. */
void ops_release(struct ops_block *b, bool sized);

/* Every so many of the blocks, from either end. */
void ops_free_many(unsigned int start, unsigned int step);

/*
 * Nothing from low to end is there any more. A block that is cut in two keeps
 * what is left, if that is a block (see osmem_heap_cut).
 */
void ops_lose(char *low, char *end);

/* Whether a block that starts at p, below end, is lost with all from low on. */
static inline bool ops_is_lost(void *p, char *low, char *end)
{
	return (uintptr_t)p < (uintptr_t)end &&
	       (uintptr_t)p + OSMEM_CONF_ALIGNMENT > (uintptr_t)low;
}

/* So many blocks come or go that are not in the table. */
void ops_count_others(int by);

/* All blocks, the statistics, the walk, os_heap_check(). */
void ops_check(void);

/* Operands. */
size_t ops_size(struct fuzz_input *in);
struct ops_block *ops_block(struct fuzz_input *in);

/* One call. */
void ops_step(struct fuzz_input *in);

/* Sets a parameter, which must be accepted. */
void ops_set(int param, int value);

/* ops_misuse.c: what must be reported. */
void ops_do_misuse(struct fuzz_input *in);
void ops_do_overwrite(struct fuzz_input *in);

/* ops_around.c: other threads and processes, options. */
void ops_do_free_elsewhere(struct fuzz_input *in);
void ops_do_work(struct fuzz_input *in);
void ops_do_fork(struct fuzz_input *in);
void ops_do_option(struct fuzz_input *in);
void ops_do_print(struct fuzz_input *in);
void ops_end_workers(void);

/* ops_system.c: what fails, is short, or comes in between. */
void ops_do_rule(struct fuzz_input *in);
void ops_do_faults(struct fuzz_input *in);
void ops_do_limit(struct fuzz_input *in);
void ops_do_break(struct fuzz_input *in);
void ops_do_lower(struct fuzz_input *in);
void ops_do_interrupt(struct fuzz_input *in);
void ops_check_breaks(void);
void ops_end_guests(void);
bool ops_is_guest(const void *p);
void ops_settle(void);   /* what a handler has freed is free now */
bool ops_is_short(void); /* of address space */

/* ops_crowd.c: very many small blocks. */
void ops_do_crowd(struct fuzz_input *in);
void ops_do_disperse(struct fuzz_input *in);
void ops_end_crowd(void);
void ops_lose_crowd(char *low, char *end);
bool ops_is_crowded(void);
bool ops_is_in_crowd(const void *p);

#endif
