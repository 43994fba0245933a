/* SPDX-License-Identifier: MIT */
/*
 * abuse.h - what a program must not do to its heap, as tables of cases.
 *
 * Each case runs in a child. It is detected when it ends with SIGABRT and a
 * report, harmless when the allocator goes on and is right afterwards, and
 * missed when blocks overlap, something of somebody else's has been written,
 * or the allocator crashes.
 */
#ifndef ABUSE_H
#define ABUSE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct abuse_kind {
	const char *name;
	size_t size;
	size_t alignment; /* 0: none asked for */
};

struct abuse_action {
	const char *name;
	void (*run)(const struct abuse_kind *kind, int arg);
	int arg;
};

struct abuse_suite {
	const char *name;
	const struct abuse_action *actions;
	size_t actions_count;
	const struct abuse_kind *kinds;
	size_t kinds_count;
	bool must_stop; /* a case that returns is missed */
};

#define ABUSE_COUNT(array) (sizeof(array) / sizeof((array)[0]))
#define ABUSE_SUITE(text, actions_, kinds_, stop) \
	{ .name = (text), .actions = (actions_), \
	  .actions_count = ABUSE_COUNT(actions_), .kinds = (kinds_), \
	  .kinds_count = ABUSE_COUNT(kinds_), .must_stop = (stop) }

extern const struct abuse_suite abuse_double;
extern const struct abuse_suite abuse_invalid;
extern const struct abuse_suite abuse_overwrite;
extern const struct abuse_suite abuse_poison;
extern const struct abuse_suite abuse_exploit;

/* The allocator: the compiler must not see what it is. */
extern void *(*volatile abuse_malloc)(size_t size);
extern void *(*volatile abuse_realloc)(void *p, size_t size);
extern void (*volatile abuse_free)(void *p);
extern void *(*volatile abuse_aligned)(size_t alignment, size_t size);
extern size_t (*volatile abuse_usable)(void *p);
void abuse_free_sized(void *p, size_t size);
void abuse_free_aligned_sized(void *p, size_t alignment, size_t size);
void abuse_trim(void);

/* How a child ends that the allocator has not stopped. */
enum {
	ABUSE_HARMLESS = 0,
	ABUSE_MISSED = 3,
	ABUSE_REFUSED = 5, /* by NULL and EINVAL */
	ABUSE_FAULTED = 6, /* the wrong access itself: the page is gone */
	ABUSE_VOID = 7 /* nothing was abused: the case cannot be made here */
};

/* --- blocks that are known --- */

/*
 * A block that is written full of a pattern of its own. Ends the child when it
 * overlaps another that is known.
 */
char *abuse_get(size_t size);
char *abuse_get_kind(const struct abuse_kind *kind);

/* Memory that is no block and must neither be handed out nor change. */
void abuse_guard(char *p, size_t size);

/* Its contents are verified. And: is not known any more, nothing is freed. */
void abuse_put(char *p);
void abuse_forget(const char *p);

/* What it holds is known no more. It must not be handed out all the same. */
void abuse_distrust(char *p);

/* Whether all that is known holds its pattern; ends the child if not. */
void abuse_verify(void);

/* Neighbours of the kind, some of them free again; NULL-terminated. */
char **abuse_fill(const struct abuse_kind *kind, unsigned blocks);

/*
 * The program goes on: blocks of the kind and of other sizes come and go, and
 * everything that is known must be right throughout.
 */
void abuse_go_on(const struct abuse_kind *kind);

/* Calls fn(arg) in a thread, and waits for it. */
void abuse_in_thread(void *(*fn)(void *arg), void *arg);

/* Writes to memory that may be gone: the child ends as FAULTED then. */
void abuse_write(void *to, const void *from, size_t size);
void abuse_set(void *to, int byte, size_t size);

/* The process that a case was warmed in: requests until a class is hot. */
void abuse_warm(const struct abuse_kind *kind);

#endif
