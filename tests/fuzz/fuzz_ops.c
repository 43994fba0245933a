/* SPDX-License-Identifier: MIT */
/*
 * fuzz_ops.c - a string of bytes is a sequence of calls.
 *
 * Two bytes choose mode and limits, each further call takes a few. Payloads
 * carry patterns, which are checked whenever a block is resized or freed and
 * at the end, as are the statistics, the walk and os_heap_check(). A pointer
 * that is no live block's must be reported, or refused by os_realloc.
 */
#include <config.h>

#include "fuzz.h"
#include "isolated.h"

#include <errno.h>
#include <osmem.h>
#include <pthread.h>

enum {
	OPS_LIVE = 256,            /* blocks at a time */
	OPS_FREED = 64,            /* pointers that are remembered */
	OPS_BYTES = 16 << 20,      /* of all live blocks together */
	OPS_SURE = 64 << 20,       /* up to here there is memory */
	OPS_WHOLE = 64,            /* bytes of a pattern at either end */
	OPS_SPARSE = 509,          /* one in so many between them, */
	OPS_PARTS = 64,            /* or in this part of a large block */
	OPS_ERRNO = 0x5a5a,        /* what free must keep */
	OPS_MISUSE_WILD = 5,       /* see ops_wild() */
};

struct ops_block {
	unsigned char *p; /* NULL: none */
	size_t size;      /* that was asked for */
	size_t usable;
	size_t alignment;
	unsigned char tag;
};

static struct ops_block ops_live[OPS_LIVE];
static void *ops_freed[OPS_FREED];
static unsigned int ops_count, ops_freed_count;
static size_t ops_bytes;
static unsigned char ops_tag;
static bool ops_planted;

/* Hidden from the compiler, which knows what a free does. */
static void (*volatile ops_free)(void *p) = os_free;
static void *(*volatile ops_realloc)(void *p, size_t n) = os_realloc;

/* --- patterns --- */

static unsigned char ops_pattern(const struct ops_block *b, size_t i)
{
	return (unsigned char)(b->tag + i * 31 + (i >> 8) * 7);
}

/* The bytes that are looked at: all at either end, some between. */
static size_t ops_next(size_t i, size_t n)
{
	size_t step = n / OPS_PARTS;

	if (i < OPS_WHOLE || n - i <= OPS_WHOLE)
		return i + 1;
	if (step < OPS_SPARSE)
		step = OPS_SPARSE;
	return n - i < OPS_WHOLE + step ? n - OPS_WHOLE : i + step;
}

static void ops_fill(const struct ops_block *b)
{
	for (size_t i = 0; i < b->usable; i = ops_next(i, b->usable))
		b->p[i] = ops_pattern(b, i);
}

/* The first n bytes of a block that was filled with so many usable ones. */
static void ops_verify(const struct ops_block *b, size_t n)
{
	for (size_t i = 0; i < n; i = ops_next(i, b->usable))
		FUZZ_MUST(b->p[i] == ops_pattern(b, i),
			  "byte %zu of %zu at %p is %#x", i, b->size,
			  (void *)b->p, b->p[i]);
}

static void ops_verify_zero(const unsigned char *p, size_t n)
{
	for (size_t i = 0; i < n; i = ops_next(i, n))
		FUZZ_MUST(p[i] == 0, "byte %zu of %zu is %#x", i, n, p[i]);
}

/* --- the table of live blocks --- */

static bool ops_is_live(const void *p)
{
	for (unsigned int i = 0; i < OPS_LIVE; i++)
		if (ops_live[i].p == p && p != NULL)
			return true;
	return false;
}

static void ops_check_overlap(const struct ops_block *b)
{
	for (unsigned int i = 0; i < OPS_LIVE; i++) {
		const struct ops_block *o = &ops_live[i];

		FUZZ_MUST(o == b || o->p == NULL || o->p >= b->p + b->usable ||
				  b->p >= o->p + o->usable,
			  "%p of %zu bytes overlaps %p of %zu", (void *)b->p,
			  b->usable, (void *)o->p, o->usable);
	}
}

/* Whether a request for n bytes may end like this. */
static bool ops_is_refused(const void *p, size_t n)
{
	int err = errno;

	FUZZ_MUST(n != 0 || p == NULL, "a block of no bytes");
	FUZZ_MUST(n <= PTRDIFF_MAX || p == NULL, "a block of %zu bytes", n);
	if (p != NULL)
		return false;
	FUZZ_MUST(n == 0 || err == ENOMEM, "errno %d for %zu bytes", err, n);
	FUZZ_MUST(n == 0 || n > OPS_SURE, "no block of %zu bytes", n);
	return true;
}

static void ops_enter(struct ops_block *b, void *p, size_t n, size_t alignment)
{
	*b = (struct ops_block){.p = p, .size = n, .alignment = alignment,
				.tag = ++ops_tag};
	b->usable = os_malloc_usable_size(p);
	FUZZ_MUST(b->usable >= n, "%zu of %zu bytes", b->usable, n);
	FUZZ_MUST((uintptr_t)p % alignment == 0, "%p for alignment %zu", p,
		  alignment);
	ops_check_overlap(b);
	ops_fill(b);
	ops_count++;
	ops_bytes += b->usable;
}

static void ops_forget(struct ops_block *b)
{
	ops_freed[ops_freed_count++ % OPS_FREED] = b->p;
	ops_count--;
	ops_bytes -= b->usable;
	b->p = NULL;
}

/* A new block; what is too large for our bounds goes at once. */
static void ops_take(struct ops_block *b, void *p, size_t n, size_t alignment)
{
	if (ops_is_refused(p, n))
		return;
	if (n > OPS_BYTES)
		os_free(p);
	else
		ops_enter(b, p, n, alignment);
}

static void ops_release(struct ops_block *b, bool sized)
{
	void *p = b->p;

	if (p == NULL)
		return;
	ops_verify(b, b->usable);
	errno = OPS_ERRNO;
	if (!sized)
		os_free(p);
	else if (b->alignment == OSMEM_CONF_ALIGNMENT)
		os_free_sized(p, b->size);
	else
		os_free_aligned_sized(p, b->alignment, b->size);
	FUZZ_MUST(errno == OPS_ERRNO, "a free set errno %d", errno);
	ops_forget(b);
}

/* --- operands --- */

/* Small, of any class, near powers of two, and near what there can be. */
static size_t ops_size(struct fuzz_input *in)
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
		return ((size_t)1 << (kind >> 3) % 23) - 48 + fuzz_byte(in) / 2;
	case 5:
		return (size_t)fuzz_bytes(in, 3) & 0x7fffff;
	case 6:
		return 131072 - 128 + fuzz_byte(in);
	default:
		return (kind & 8 ? SIZE_MAX : (size_t)PTRDIFF_MAX + 64) -
		       fuzz_byte(in);
	}
}

static struct ops_block *ops_block(struct fuzz_input *in)
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

static bool ops_has_room(size_t n)
{
	return n > OPS_BYTES || n <= OPS_BYTES - ops_bytes;
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

static void ops_do_realloc(struct fuzz_input *in)
{
	struct ops_block *b = ops_block(in), old = *b;
	size_t n = ops_size(in);
	unsigned char *p;

	if (!ops_has_room(n))
		return;
	if (old.p != NULL)
		ops_verify(b, b->usable);
	p = os_realloc(old.p, n);
	if (old.p == NULL) {
		ops_take(b, p, n, OSMEM_CONF_ALIGNMENT);
		return;
	}
	if (n != 0 && ops_is_refused(p, n)) {
		ops_verify(b, b->usable);
		return;
	}
	FUZZ_MUST(n != 0 || p == NULL, "a block of no bytes");
	ops_forget(b);
	if (p == NULL)
		return;
	old.p = p; /* its pattern, in a new place */
	ops_verify(&old, old.size < n ? old.size : n);
	ops_take(b, p, n, OSMEM_CONF_ALIGNMENT);
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
	size_t usable = os_malloc_usable_size(b->p);

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

/* Every so many of the blocks, from either end. */
static void ops_free_many(unsigned int start, unsigned int step)
{
	for (unsigned int i = 0; i < OPS_LIVE; i += step % 16 + 1)
		ops_release(&ops_live[(step & 16 ? start - i : start + i) %
				      OPS_LIVE],
			    false);
}

static void ops_do_free_many(struct fuzz_input *in)
{
	unsigned int start = fuzz_byte(in);

	ops_free_many(start, fuzz_byte(in));
}

static void *ops_thread(void *arg)
{
	const unsigned char *bytes = arg;
	struct ops_block *b = &ops_live[bytes[0] % OPS_LIVE];

	ops_free_many(bytes[0], bytes[1]);
	if (b->p == NULL) /* one that outlives its thread */
		ops_take(b, os_malloc(bytes[2]), bytes[2],
			 OSMEM_CONF_ALIGNMENT);
	return NULL;
}

/* The same by another thread, which ends. */
static void ops_do_free_elsewhere(struct fuzz_input *in)
{
	unsigned char bytes[3];
	pthread_t thread;

	for (unsigned int i = 0; i < 3; i++)
		bytes[i] = (unsigned char)fuzz_byte(in);
	if (!OSMEM_CONF_THREADS)
		return;
	FUZZ_MUST(pthread_create(&thread, NULL, ops_thread, bytes) == 0,
		  "no thread");
	pthread_join(thread, NULL);
}

/* --- looking inside --- */

static int ops_count_block(const struct os_block *block, void *arg)
{
	unsigned int *count = arg;

	*count += block->state != OS_BLOCK_FREE;
	return 0;
}

static void ops_check(void)
{
	struct os_stats s = {.struct_size = sizeof(s)};
	unsigned int walked = 0;

	for (unsigned int i = 0; i < OPS_LIVE; i++)
		if (ops_live[i].p != NULL)
			ops_verify(&ops_live[i], ops_live[i].usable);
	FUZZ_MUST(os_heap_check() == 0, "os_heap_check()");
	FUZZ_MUST(os_stats(&s) == 0, "os_stats()");
	FUZZ_MUST(s.heap_used_blocks + s.mapped_blocks + s.slab_used_blocks ==
			  ops_count,
		  "%zu + %zu + %zu blocks, not %u", s.heap_used_blocks,
		  s.mapped_blocks, s.slab_used_blocks, ops_count);
	os_heap_walk(ops_count_block, &walked);
	FUZZ_MUST(walked == ops_count, "%u blocks walked, not %u", walked,
		  ops_count);
}

static void ops_do_check(struct fuzz_input *in)
{
	(void)in;
	ops_check();
}

/* --- misuse --- */

static int ops_misuse_free(void *p)
{
	ops_free(p);
	return 0;
}

static int ops_misuse_sized(void *p)
{
	os_free_sized(p, 8);
	return 0;
}

static int ops_misuse_usable(void *p)
{
	return os_malloc_usable_size(p) == SIZE_MAX;
}

/* A free block is refused; anything else must be reported. */
static int ops_misuse_realloc(void *p)
{
	errno = 0;
	return ops_realloc(p, 100) == NULL && errno == EINVAL;
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

static void ops_do_misuse(struct fuzz_input *in)
{
	static const struct {
		int (*fn)(void *p);
		const char *call;
	} calls[] = {
		{ops_misuse_free, "os_free"},
		{ops_misuse_realloc, "os_realloc"},
		{ops_misuse_usable, "os_malloc_usable_size"},
		{ops_misuse_sized, "os_free_sized"},
	};
	unsigned int which = fuzz_byte(in) % 4;
	void *p = ops_bad_pointer(in);

	if (p == NULL || ops_is_live(p))
		return;
	isolated_misuse(calls[which].fn, p, calls[which].call, ops_check);
}

/* --- the sequence --- */

static void (*const ops_calls[])(struct fuzz_input *in) = {
	ops_do_malloc,     ops_do_free,       ops_do_realloc,
	ops_do_calloc,     ops_do_burst,      ops_do_free_many,
	ops_do_aligned,    ops_do_free_sized, ops_do_usable,
	ops_do_trim,       ops_do_check,      ops_do_free_elsewhere,
	ops_do_misuse,
};

static void ops_set(int param, int value)
{
	FUZZ_MUST(os_mallopt(param, value) == 1, "parameter %d", param);
}

static void ops_configure(struct fuzz_input *in)
{
	unsigned int mode = fuzz_byte(in), limits = fuzz_byte(in);

	ops_set(OS_M_WARN, 0);
	ops_set(OS_M_MODE, (int)(mode % 3));
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
		ops_calls[fuzz_byte(&in) %
			  (sizeof(ops_calls) / sizeof(ops_calls[0]))](&in);
	if (ops_planted)
		ops_plant();
	ops_check();
	ops_free_many(0, 0);
	ops_check();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	ops_planted = fuzz_is_planted();
	isolated_run(ops_run, data, size);
	return 0;
}
