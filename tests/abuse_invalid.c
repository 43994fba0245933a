/* SPDX-License-Identifier: MIT */
/*
 * abuse_invalid.c - pointers that are no live blocks, given to free, realloc
 * and usable_size; and frees that name a wrong size or alignment.
 */
#include <config.h>

#include "abuse.h"
#include "must.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

/* The size kinds; for what has nothing to do with sizes, 0 to 3. */
static const struct abuse_kind kinds[] = {{"64", 64, 0},
					  {"3000", 3000, 0},
					  {"200000", 200000, 0},
					  {"40000000", 40000000, 0}};

enum op { FREE, RESIZE, USABLE, OPS };

static void use(void *p, int op)
{
	errno = 0;
	switch (op % OPS) {
	case FREE:
		abuse_free(p);
		break;
	case RESIZE:
		if (abuse_realloc(p, 10) == NULL && errno == EINVAL)
			_exit(ABUSE_REFUSED);
		break;
	default:
		abuse_usable(p);
	}
}

static char *get_one(const struct abuse_kind *kind)
{
	return abuse_fill(kind, kind->size > 1000000 ? 4 : 9)[2];
}

/* --- inside, before, behind --- */

static void inside_1(const struct abuse_kind *kind, int op)
{
	use(get_one(kind) + 1, op);
}

static void inside_8(const struct abuse_kind *kind, int op)
{
	use(get_one(kind) + 8, op);
}

static void inside_16(const struct abuse_kind *kind, int op)
{
	use(get_one(kind) + 16, op);
}

static void inside_half(const struct abuse_kind *kind, int op)
{
	use(get_one(kind) + kind->size / 2, op);
}

static void inside_end(const struct abuse_kind *kind, int op)
{
	use(get_one(kind) + kind->size - 1, op);
}

static void before(const struct abuse_kind *kind, int op)
{
	use(get_one(kind) - 8, op);
}

static void freed(const struct abuse_kind *kind, int op)
{
	char *p = get_one(kind);

	abuse_free(p);
	use(p, op);
}

/* --- nothing of ours --- */

static int a_static[16];

static char *mapping(int prot)
{
	char *p = mmap(NULL, 1 << 20, prot, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	MUST(p != MAP_FAILED);
	return p;
}

static char *unmapped(void)
{
	char *p = mapping(PROT_READ);

	munmap(p, 1 << 20);
	return p;
}

static size_t which(const struct abuse_kind *kind)
{
	return (size_t)(kind - kinds);
}

/* The program's own memory. */
static void of_the_program(const struct abuse_kind *kind, int op)
{
	int on_stack[16];
	void *const those[] = {&a_static[4], &on_stack[4],
			       (void *)(uintptr_t) "a constant",
			       (void *)(uintptr_t)of_the_program};

	use(those[which(kind)], op);
}

static void of_the_system(const struct abuse_kind *kind, int op)
{
	char *const those[] = {
		mapping(PROT_READ | PROT_WRITE) + 4096,
		mapping(PROT_NONE) + 4096,
		unmapped() + 32,
		(char *)stderr,
	};

	use(those[which(kind)], op);
}

static void a_number(const struct abuse_kind *kind, int op)
{
	static const uintptr_t those[] = {1, 16, 4096, UINTPTR_MAX - 15};

	use((void *)those[which(kind)], op);
}

static void no_address(const struct abuse_kind *kind, int op)
{
	static const uintptr_t those[] = {
		(uintptr_t)UINT64_C(0x8000000080000000),
		(uintptr_t)UINT64_C(0x0123456789abcde0),
		(uintptr_t)UINT64_C(0xffff888000001000),
		(uintptr_t)UINT64_C(0x4141414141414141)};

	use((void *)those[which(kind)], op);
}

/* A block that looks like one, with a header copied from a live one. */
static void a_forged_block(const struct abuse_kind *kind, int op)
{
	static _Alignas(4096) char forged[3 * 4096];
	char *p = get_one(kind);

	memcpy(forged + 4096 - 32, p - 32, 64);
	use(forged + 4096, op);
}

/* --- wrong sizes and alignments --- */

static void wrong_size(const struct abuse_kind *kind, int factor)
{
	char *p = get_one(kind);

	abuse_free_sized(p, factor > 0 ? kind->size * (size_t)factor
				       : kind->size / (size_t)-factor);
}

/* The least that the block does not happen to have. */
static void wrong_alignment(const struct abuse_kind *kind, int unused)
{
	char *p = get_one(kind);
	uintptr_t alignment = ((uintptr_t)p & -(uintptr_t)p) * 2;

	(void)unused;
	abuse_free_aligned_sized(p, alignment, kind->size);
}

#define BY_ALL(name, fn) \
	{"free-" name, fn, FREE}, {"realloc-" name, fn, RESIZE}, \
		{"usable_size-" name, fn, USABLE}

static const struct abuse_action actions[] = {
	BY_ALL("inside-1", inside_1),
	BY_ALL("inside-8", inside_8),
	BY_ALL("inside-16", inside_16),
	BY_ALL("inside-half", inside_half),
	BY_ALL("inside-end", inside_end),
	BY_ALL("before", before),
	BY_ALL("freed", freed),
	BY_ALL("of-the-program", of_the_program),
	BY_ALL("of-the-system", of_the_system),
	BY_ALL("a-number", a_number),
	BY_ALL("no-address", no_address),
	BY_ALL("a-forged-block", a_forged_block),
	{"free_sized-double", wrong_size, 2},
	{"free_sized-quarter", wrong_size, -4},
	{"free_sized-nothing", wrong_size, -1000000000},
	{"free_aligned_sized", wrong_alignment, 0},
};

const struct abuse_suite abuse_invalid =
	ABUSE_SUITE("invalid", actions, kinds, true);
