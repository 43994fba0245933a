/* SPDX-License-Identifier: MIT */
/*
 * model.h - the reference model of what the allocator promises in exact mode.
 *
 * It simulates the heap with two arrays and plain loops, from the text of the
 * contract alone, and predicts for each call the address, errno, the system
 * calls, and the size and status words of every block. No memory of a heap is
 * read or written. It shares no code with the library, takes no lock,
 * allocates nothing and must stay obvious: every step is O(n).
 */
#ifndef MODEL_H
#define MODEL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define MODEL_MAX 8192 /* blocks, on the heap and mapped each */
#define MODEL_META 32
#define MODEL_MMAP_THRESHOLD 131072
#define MODEL_PREALLOC 131072

enum { MODEL_FREE = 0, MODEL_USED = 1, MODEL_MAPPED = 2 };

/* Faults that can be planted, to prove that a comparison would find them. */
enum model_bug {
	MODEL_BUG_NONE,
	MODEL_BUG_FIRST_FIT, /* in place of best fit */
	MODEL_BUG_SPLIT,     /* none when the rest is just a header + ALIGN */
	MODEL_BUG_FREE_MERGES
};

/* start and length: the whole mapping of a mapped block. */
struct model_block {
	uintptr_t addr; /* of the header */
	size_t size;
	int status;
	uintptr_t start;
	size_t length;
};

/*
 * What the model asks of the system. The owner of the model answers, and sees
 * in this way which calls are predicted, in order.
 */
struct model_system {
	bool (*grow_break)(uintptr_t to); /* false: refused */
	uintptr_t (*map)(size_t length);  /* 0: refused */
	void (*unmap)(uintptr_t start, size_t length);
};

struct model {
	const struct model_system *system;
	size_t align; /* ALIGN, 8 or 16 */
	size_t page;  /* PAGE, of the calloc rule */
	enum model_bug bug;
	uintptr_t brk; /* the break, whoever moved it last */
	bool started;  /* the heap was preallocated (rule 8a) */
	size_t heap_count, mapped_count;
	struct model_block heap[MODEL_MAX]; /* in address order */
	struct model_block mapped[MODEL_MAX];
};

/* What a call returns: ptr 0 is NULL, err 0 an errno that stays as it was. */
struct model_result {
	uintptr_t ptr;
	int err;
};

/* A heap that has not been used; brk is the break as it is. */
void model_init(struct model *m, const struct model_system *system,
		size_t align, size_t page, uintptr_t brk);

struct model_result model_malloc(struct model *m, size_t n);
struct model_result model_calloc(struct model *m, size_t k, size_t n);
struct model_result model_realloc(struct model *m, uintptr_t p, size_t n);
struct model_result model_reallocarray(struct model *m, uintptr_t p, size_t k,
				       size_t n);
void model_free(struct model *m, uintptr_t p);

/* os_aligned_alloc, os_memalign and os_posix_memalign. */
struct model_result model_aligned_alloc(struct model *m, size_t a, size_t n);
struct model_result model_memalign(struct model *m, size_t a, size_t n);
struct model_result model_posix_memalign(struct model *m, size_t a, size_t n);

/* Somebody else has moved the break. */
void model_foreign_break(struct model *m, uintptr_t brk);

/* The block, in whatever state, whose payload starts at p, or NULL. */
const struct model_block *model_find(const struct model *m, uintptr_t p);

/* Whether p could be a former block inside a free one, header and all. */
bool model_is_inside_free(const struct model *m, uintptr_t p);

#endif
