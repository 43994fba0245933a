/* SPDX-License-Identifier: MIT */
/*
 * ops_misuse.c - what must end in a report: pointers that are no live
 * block's, wrong sizes, and blocks that were overrun.
 */
#include <config.h>

#include "hard.h"
#include "isolated.h"
#include "ops.h"

#include <errno.h>
#include <osmem.h>

enum {
	OPS_MISUSE_WILD = 5,       /* see ops_wild() */
	OPS_MISUSE_CANARY = 8,     /* behind a hardened block */
	OPS_MISUSE_META = 32,      /* bytes of a header */
	OPS_MISUSE_SMALL = 512,    /* of larger slots chance takes too few */
	OPS_MISUSE_LATE = 16 << 20 /* bytes that are asked for meanwhile */
};

static void *volatile ops_misuse_lost;

/* Hidden from the compiler, which knows what a free does. */
static void (*volatile ops_free)(void *p) = os_free;
static void *(*volatile ops_realloc)(void *p, size_t n) = os_realloc;

static int ops_misuse_free(void *p)
{
	ops_free(p);
	return ops_passes;
}

static int ops_misuse_sized(void *p)
{
	os_free_sized(p, 8);
	return ops_passes;
}

static int ops_misuse_aligned(void *p)
{
	os_free_aligned_sized(p, 64, 8);
	return ops_passes;
}

static int ops_misuse_usable(void *p)
{
	return os_malloc_usable_size(p) == 0 && ops_passes;
}

/* Anything else must be reported. */
static bool ops_was_refused(const void *p)
{
	return p == NULL &&
	       (errno == EINVAL || (ops_may_fail && errno == ENOMEM));
}

/* A free block is refused. */
static int ops_misuse_realloc(void *p)
{
	errno = 0;
	return ops_was_refused(ops_realloc(p, 100));
}

/* Pointers that were never ours. */
static void *ops_wild(unsigned int which)
{
	static unsigned char object[64];
	unsigned char local[64];
	uintptr_t stack = (uintptr_t)local;

	switch (which % OPS_MISUSE_WILD) {
	case 0:
		return object + which / 8;
	case 1:
		return (void *)(stack + which / 8);
	case 2:
		return (void *)(uintptr_t)(1 + which);
	case 3:
		return (void *)(UINTPTR_MAX - which);
	default:
		return (void *)(uintptr_t)(UINT64_C(1) << which % 48);
	}
}

static int ops_misuse_array(void *p)
{
	errno = 0;
	return ops_was_refused(os_reallocarray(p, 2, 50));
}

/* One that was freed, one beside a live one, or one that was never ours. */
static void *ops_bad_pointer(struct fuzz_input *in)
{
	unsigned int kind = fuzz_byte(in), which = fuzz_byte(in);
	const struct ops_block *b = &ops_live[which % OPS_LIVE];

	if (kind % 3 == 0)
		return ops_freed[which % OPS_FREED];
	if (kind % 3 == 1 && b->p != NULL)
		return b->p + (int16_t)fuzz_bytes(in, 2);
	return kind % 3 == 1 ? NULL : ops_wild(which);
}

void ops_do_misuse(struct fuzz_input *in)
{
	static const struct {
		int (*fn)(void *p);
		const char *call;
	} calls[] = {
		{ops_misuse_free, "os_free("},
		{ops_misuse_realloc, "os_realloc("},
		{ops_misuse_usable, "os_malloc_usable_size("},
		{ops_misuse_sized, "os_free_sized("},
		{ops_misuse_aligned, "os_free_aligned_sized("},
		{ops_misuse_array, "os_reallocarray("},
	};
	unsigned int which = fuzz_byte(in) % 6;
	void *p = ops_bad_pointer(in);

	if (p == NULL || ops_is_live(p) || ops_is_in_crowd(p) ||
	    ops_is_guest(p))
		return;
	isolated_misuse(calls[which].fn, p, calls[which].call, ops_check);
}

/* --- live blocks --- */

static size_t ops_wrong; /* what is wrong by so much */

static int ops_wrong_size(void *p)
{
	os_free_sized(p, ops_wrong);
	return 0;
}

/* The header is sealed, but for what 32-bit machines have of padding. */
static int ops_broken_header(void *p)
{
	unsigned char *header = (unsigned char *)p - OPS_MISUSE_META;
	size_t at = sizeof(void *) == 8 ? ops_wrong % OPS_MISUSE_META
					: 8 + ops_wrong % 8;

	header[at] ^= (unsigned char)(ops_wrong | 1);
	if (os_heap_check() != 0)
		ops_free(p);
	return 0;
}

/* The canary of a hardened slot, which is no block any more then. */
static int ops_overrun(void *p)
{
	((unsigned char *)p)[os_malloc_usable_size(p) + ops_wrong % 8] ^=
		(unsigned char)(ops_wrong | 1);
	ops_free(p);
	return 0;
}

/* Found out when the slot is used again: when others have waited behind it. */
static int ops_write_late(void *p)
{
	size_t size = os_malloc_usable_size(p), all = 0;

	ops_free(p);
	((unsigned char *)p)[ops_wrong % size] = (unsigned char)(ops_wrong | 1);
	/* An aligned block's slot, or one that has shrunk, is larger. */
	size = osmem_hard_locate_small(p).slot_size - OPS_MISUSE_CANARY;
	if (size > OPS_MISUSE_SMALL || ops_may_fail)
		isolated_leave();
	for (; all < OPS_MISUSE_LATE; all += size + 16) {
		ops_misuse_lost = os_malloc(size);
		ops_free(ops_misuse_lost);
		ops_misuse_lost = os_malloc(size);
	}
	return 0;
}

void ops_do_overwrite(struct fuzz_input *in)
{
	const struct ops_block *b = ops_block(in);
	unsigned int how = fuzz_byte(in) % 3;
	size_t more = fuzz_byte(in);

	if (b->p == NULL)
		return;
	ops_busy = b;
	ops_wrong = how == 0 ? b->usable + 1 + more : more;
	if (how == 0)
		isolated_misuse(ops_wrong_size, b->p, "os_free_sized(",
				ops_check);
	else if (ops_mode == OS_MODE_EXACT)
		isolated_misuse(ops_broken_header, b->p, "", NULL);
	else if (osmem_hard_locate_small(b->p).found == OSMEM_FOUND_LIVE)
		isolated_misuse(how == 1 ? ops_overrun : ops_write_late, b->p,
				"", NULL);
	ops_busy = NULL;
}
