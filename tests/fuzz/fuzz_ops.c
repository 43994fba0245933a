/* SPDX-License-Identifier: MIT */
/*
 * fuzz_ops.c - a string of bytes is a sequence of calls.
 *
 * Two bytes choose mode and limits, each further call takes a few. Payloads
 * carry patterns, which are checked whenever a block is resized or freed and
 * at the end, as are the statistics, the walk and os_heap_check(). Each file
 * ops_*.c has some of the calls.
 */
#include <config.h>

#include "isolated.h"
#include "ops.h"

#include <errno.h>
#include <osmem.h>

enum { OPS_TEXT = 5000 };

static bool ops_planted;

/* --- operands --- */

/* Small, of any class, near powers of two, and near what there can be. */
size_t ops_size(struct fuzz_input *in)
{
	unsigned int kind = fuzz_byte(in);

	switch (kind & 7) {
	case 0:
	case 1:
		return fuzz_byte(in);
	case 2:
	case 3:
		return (size_t)fuzz_bytes(in, 2);
	case 4:
		return ((size_t)1 << (kind >> 3) % 26) - 48 + fuzz_byte(in) / 2;
	case 5:
		return (size_t)fuzz_bytes(in, 3) & 0x7fffff;
	case 6:
		return 131072 - 128 + fuzz_byte(in);
	default:
		return (kind & 8 ? SIZE_MAX : (size_t)PTRDIFF_MAX + 64) -
		       fuzz_byte(in);
	}
}

struct ops_block *ops_block(struct fuzz_input *in)
{
	return &ops_live[fuzz_byte(in) % OPS_LIVE];
}

/* A place that is free, or made so. */
static struct ops_block *ops_place(struct fuzz_input *in)
{
	struct ops_block *b = ops_block(in);

	ops_release(b, false);
	return b;
}

/* --- the calls --- */

static void ops_do_malloc(struct fuzz_input *in)
{
	struct ops_block *b = ops_place(in);
	size_t n = ops_size(in);

	if (ops_has_room(n))
		ops_take(b, os_malloc(n), n, OSMEM_CONF_ALIGNMENT);
}

static void ops_do_calloc(struct fuzz_input *in)
{
	struct ops_block *b = ops_place(in);
	size_t n = ops_size(in), k = fuzz_byte(in), all;
	void *p;

	if (__builtin_mul_overflow(n, k, &all))
		all = SIZE_MAX;
	if (!ops_has_room(all))
		return;
	p = os_calloc(k, n);
	if (p != NULL && all <= OPS_BYTES)
		ops_verify_zero(p, all);
	ops_take(b, p, all, OSMEM_CONF_ALIGNMENT);
}

static void ops_do_aligned(struct fuzz_input *in)
{
	struct ops_block *b = ops_place(in);
	unsigned int byte = fuzz_byte(in);
	size_t alignment = (size_t)1 << byte % 21, n = ops_size(in);
	void *p = NULL;

	if (!ops_has_room(n))
		return;
	if (byte >= 0xc0) { /* no power of two */
		p = os_aligned_alloc(byte * 3, n);
		FUZZ_MUST(p == NULL && errno == EINVAL, "alignment %u",
			  byte * 3);
		return;
	}
	if (byte < 0x80)
		p = os_aligned_alloc(alignment, n);
	else if (os_posix_memalign(&p, alignment, n) == EINVAL) {
		FUZZ_MUST(alignment < sizeof(void *), "%zu", alignment);
		return;
	}
	if (alignment < OSMEM_CONF_ALIGNMENT)
		alignment = OSMEM_CONF_ALIGNMENT;
	ops_take(b, p, n, alignment);
}

/* k * n bytes, of which k is 1 for os_realloc. */
static void ops_resize(struct ops_block *b, size_t k, size_t n)
{
	struct ops_block old = *b;
	unsigned char *p;
	size_t all;

	if (__builtin_mul_overflow(n, k, &all))
		all = SIZE_MAX;
	if (!ops_has_room(all))
		return;
	if (old.p != NULL)
		ops_verify(b, b->usable);
	ops_busy = b;
	p = k == 1 ? os_realloc(old.p, n) : os_reallocarray(old.p, k, n);
	ops_busy = NULL;
	if (old.p == NULL) {
		ops_take(b, p, all, OSMEM_CONF_ALIGNMENT);
		return;
	}
	if (all != 0 && ops_is_refused(p, all)) {
		ops_swell(b);
		return;
	}
	FUZZ_MUST(all != 0 || p == NULL, "a block of no bytes");
	ops_forget(b);
	if (p == NULL)
		return;
	old.p = p; /* its pattern, in a new place */
	ops_verify(&old, old.size < all ? old.size : all);
	ops_take(b, p, all, OSMEM_CONF_ALIGNMENT);
}

static void ops_do_realloc(struct fuzz_input *in)
{
	struct ops_block *b = ops_block(in);

	ops_resize(b, 1, ops_size(in));
}

static void ops_do_reallocarray(struct fuzz_input *in)
{
	struct ops_block *b = ops_block(in);
	size_t k = fuzz_byte(in);

	ops_resize(b, k, ops_size(in));
}

static void ops_do_memalign(struct fuzz_input *in)
{
	struct ops_block *b = ops_place(in);
	size_t alignment = (size_t)fuzz_byte(in) * 37, n = ops_size(in);
	size_t power = OSMEM_CONF_ALIGNMENT;

	while (power < alignment)
		power *= 2;
	if (ops_has_room(n))
		ops_take(b, os_memalign(alignment, n), n, power);
}

/* A string, and what there is of it up to some byte. */
static void ops_do_strdup(struct fuzz_input *in)
{
	static char text[OPS_TEXT];
	struct ops_block *b = ops_place(in);
	size_t n = (size_t)fuzz_bytes(in, 2) % OPS_TEXT, most = fuzz_byte(in);
	char *p;

	if (!ops_has_room(n + 1))
		return;
	memset(text, 'x', n);
	text[n] = '\0';
	if (most % 2 == 0) {
		p = os_strdup(text);
	} else {
		n = n < most * 16 ? n : most * 16;
		p = os_strndup(text, most * 16);
	}
	FUZZ_MUST(p == NULL || (strlen(p) == n && memcmp(p, text, n) == 0),
		  "not the string of %zu bytes", n);
	ops_take(b, p, n + 1, OSMEM_CONF_ALIGNMENT);
}

static void ops_do_free(struct fuzz_input *in)
{
	ops_release(ops_block(in), false);
}

static void ops_do_free_sized(struct fuzz_input *in)
{
	ops_release(ops_block(in), true);
}

static void ops_do_usable(struct fuzz_input *in)
{
	struct ops_block *b = ops_block(in);
	size_t usable;

	ops_busy = b;
	usable = os_malloc_usable_size(b->p);
	ops_busy = NULL;
	FUZZ_MUST(b->p == NULL ? usable == 0 : usable == b->usable,
		  "%zu usable bytes", usable);
}

static void ops_do_trim(struct fuzz_input *in)
{
	os_malloc_trim(ops_size(in));
}

/* Many blocks of a size, so that classes get hot and slabs get full. */
static void ops_do_burst(struct fuzz_input *in)
{
	unsigned int start = fuzz_byte(in), count = fuzz_byte(in);
	size_t n = ops_size(in);

	for (unsigned int i = 0; i < count && ops_has_room(n); i++) {
		struct ops_block *b = &ops_live[(start + i) % OPS_LIVE];

		if (b->p == NULL)
			ops_take(b, os_malloc(n), n, OSMEM_CONF_ALIGNMENT);
	}
}

static void ops_do_free_many(struct fuzz_input *in)
{
	unsigned int start = fuzz_byte(in);

	ops_free_many(start, fuzz_byte(in));
}

static void ops_do_check(struct fuzz_input *in)
{
	(void)in;
	ops_check();
}

/* --- the sequence --- */

static void (*const ops_calls[])(struct fuzz_input *in) = {
	ops_do_malloc,       ops_do_free,       ops_do_realloc,
	ops_do_calloc,       ops_do_burst,      ops_do_free_many,
	ops_do_aligned,      ops_do_free_sized, ops_do_usable,
	ops_do_trim,         ops_do_check,      ops_do_free_elsewhere,
	ops_do_misuse,       ops_do_work,       ops_do_fork,
	ops_do_option,       ops_do_rule,       ops_do_faults,
	ops_do_break,        ops_do_print,      ops_do_overwrite,
	ops_do_reallocarray, ops_do_memalign,   ops_do_strdup,
	ops_do_limit,        ops_do_interrupt,  ops_do_crowd,
	ops_do_disperse,     ops_do_lower,
};

void ops_step(struct fuzz_input *in)
{
	ops_calls[fuzz_byte(in) % (sizeof(ops_calls) / sizeof(ops_calls[0]))](
		in);
}

void ops_set(int param, int value)
{
	FUZZ_MUST(os_mallopt(param, value) == 1, "parameter %d", param);
}

static void ops_configure(struct fuzz_input *in)
{
	unsigned int mode = fuzz_byte(in), limits = fuzz_byte(in);

	ops_set(OS_M_WARN, 0);
	ops_mode = (int)(mode % 3);
	ops_set(OS_M_MODE, ops_mode);
	ops_set(OS_M_HARDEN, (mode & 0x20) != 0);
	ops_set(OS_M_SITES, (mode & 0x10) != 0);
	ops_set(OS_M_BREAK, mode & 0x40 ? OS_BREAK_ALWAYS : OS_BREAK_AUTO);
	ops_set(OS_M_CHECK, mode & 0x80 ? 16 : 0);
	ops_set(OS_M_HOT_AFTER, (int)(limits & 7) + 1);
	ops_set(OS_M_GROW_AFTER, (int)(limits >> 3 & 7) + 1);
	ops_set(OS_M_CACHE_AFTER, (int)(limits >> 6) + 1);
}

/* A byte of a live block that somebody else has written. */
static void ops_plant(void)
{
	for (unsigned int i = 0; i < OPS_LIVE; i++)
		if (ops_live[i].p != NULL && ops_live[i].size > 8)
			ops_live[i].p[8] ^= 1;
}

static void ops_run(const uint8_t *data, size_t size)
{
	struct fuzz_input in = {data, size};

	ops_configure(&in);
	while (in.left > 0)
		ops_step(&in);
	if (ops_planted)
		ops_plant();
	ops_check();
	ops_free_many(0, 0);
	ops_check();
	ops_end_workers();
	ops_end_crowd();
	ops_end_guests();
	ops_check();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	ops_planted = fuzz_is_planted();
	isolated_run(ops_run, data, size);
	return 0;
}
