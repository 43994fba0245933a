/* SPDX-License-Identifier: MIT */
/*
 * replay.c - library and model, call by call.
 *
 * The library goes first, and its system calls are noted; then the model does
 * the same call, and what it asks of its system must be what was noted. libc's
 * malloc and stdio would move the break: neither is used here.
 */
#include <config.h>

#include "replay.h"

#include "osmem.h"
#include "witness.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#define META MODEL_META
#define FOREIGN_MAX 64
/* No call sets it, and a call that goes well keeps it. */
#define ERRNO_BEFORE EDOM

/* A slot's block, and the block it held before with its header words. */
struct slot {
	unsigned char *ptr;
	size_t asked;
	size_t alignment; /* 0: a plain request */
	unsigned char seed;
	unsigned char *freed;
	unsigned char freed_header[16];
};

static struct model model;
static struct slot slots[SEQUENCE_SLOTS];
static struct foreign {
	unsigned char *start;
	size_t length;
} foreign[FOREIGN_MAX];
static unsigned foreign_count;
static bool talking;
static struct replay_report *told;

/* Header words, read as a caller may read them. */

static void check_header(const struct model_block *b)
{
	const unsigned char *header = (const unsigned char *)b->addr;
	size_t size;
	int status;

	memcpy(&size, header, sizeof(size));
	memcpy(&status, header + 8, sizeof(status));
	if (size != b->size || status != b->status)
		witness_differ(
			"header of %p: size %zu status %d; model: %zu, %d",
			(const void *)(header + META), size, status, b->size,
			b->status);
}

/* prev at 16, next at 24: the heap's blocks in address order (rule 2). */
static void check_links(size_t i)
{
	const unsigned char *header = (unsigned char *)model.heap[i].addr;
	uintptr_t before = i > 0 ? model.heap[i - 1].addr : 0;
	uintptr_t behind =
		i + 1 < model.heap_count ? model.heap[i + 1].addr : 0;
	uintptr_t prev, next;

	memcpy(&prev, header + 16, sizeof(prev));
	memcpy(&next, header + 24, sizeof(next));
	if (prev != before || next != behind)
		witness_differ(
			"links of %p: prev %#zx next %#zx; model: %#zx, %#zx",
			(const void *)(header + META), (size_t)prev,
			(size_t)next, (size_t)before, (size_t)behind);
}

/* Contents: all of a small block, a byte here and there of a large one. */

static size_t stride(size_t size)
{
	return size <= 8192 ? 1 : 1021;
}

static unsigned char pattern(unsigned char seed, size_t i)
{
	return (unsigned char)(seed + i * 7);
}

static void fill(const struct slot *s, size_t from, size_t size)
{
	size_t step = stride(size), i;

	for (i = (from + step - 1) / step * step; i < size; i += step)
		s->ptr[i] = pattern(s->seed, i);
	s->ptr[size - 1] = pattern(s->seed, size - 1);
}

/* filled: the size at which the block was filled, size or more */
static void check_contents(const struct slot *s, size_t size, size_t filled)
{
	size_t step = stride(filled), i;

	for (i = 0; i < size; i += step)
		if (s->ptr[i] != pattern(s->seed, i))
			witness_differ("%p: byte %zu of %zu has changed",
				       (void *)s->ptr, i, size);
	if (size == filled && s->ptr[size - 1] != pattern(s->seed, size - 1))
		witness_differ("%p: the last byte of %zu has changed",
			       (void *)s->ptr, size);
}

static void check_zero(const unsigned char *p, size_t size)
{
	if (size != 0 && (p[0] != 0 || memcmp(p, p + 1, size - 1) != 0))
		witness_differ("%p: os_calloc's %zu bytes are not zero",
			       (const void *)p, size);
}

static size_t usable(const unsigned char *p)
{
	const struct model_block *b = model_find(&model, (uintptr_t)p);

	return b != NULL ? b->size : 0;
}

/* Everything at once. */

static uintptr_t walked;
static size_t walked_count;

static int check_walked(const struct os_block *block, void *arg)
{
	uintptr_t p = (uintptr_t)block->ptr;
	const struct model_block *b = model_find(&model, p);

	(void)arg;
	if (p <= walked)
		witness_differ("os_heap_walk is not in address order at %p",
			       block->ptr);
	if (b == NULL || block->size != b->size || block->state != b->status)
		witness_differ(
			"os_heap_walk: %p size %zu state %d is not the model's",
			block->ptr, block->size, block->state);
	walked = p;
	walked_count++;
	return 0;
}

static void check_walk(void)
{
	walked = 0;
	walked_count = 0;
	if (os_heap_walk(check_walked, NULL) != 0 ||
	    walked_count != model.heap_count + model.mapped_count)
		witness_differ("os_heap_walk: %zu blocks; model: %zu",
			       walked_count,
			       model.heap_count + model.mapped_count);
	if (os_heap_check() != 0)
		witness_differ("os_heap_check is not content");
}

static void check_all(void)
{
	size_t i, k;

	for (i = 0; i < model.heap_count; i++) {
		check_header(&model.heap[i]);
		check_links(i);
	}
	for (i = 0; i < model.mapped_count; i++)
		check_header(&model.mapped[i]);
	for (i = 0; i < SEQUENCE_SLOTS; i++)
		if (slots[i].ptr != NULL)
			check_contents(&slots[i], usable(slots[i].ptr),
				       usable(slots[i].ptr));
	for (i = 0; i < foreign_count; i++)
		for (k = 0; k < foreign[i].length; k++)
			if (foreign[i].start[k] != 0xf5)
				witness_differ(
					"%p is somebody else's and has changed",
					(void *)&foreign[i].start[k]);
}

/* Somebody else's sbrk, forwards or over what it had taken last. */
static void move_break(const struct step *s)
{
	struct foreign *last =
		foreign_count > 0 ? &foreign[foreign_count - 1] : NULL;
	unsigned char *brk = sbrk(0);
	size_t n = s->n;

	if (s->k == 1) {
		if (last == NULL || last->start + last->length != brk)
			return;
		n = n < last->length ? n : last->length;
		if (sbrk(-(intptr_t)n) == (void *)-1)
			return;
		last->length -= n;
		foreign_count -= last->length == 0;
	} else {
		if (foreign_count == FOREIGN_MAX ||
		    sbrk((intptr_t)n) == (void *)-1)
			return;
		memset(brk, 0xf5, n);
		foreign[foreign_count++] = (struct foreign){brk, n};
	}
	model_foreign_break(&model, (uintptr_t)sbrk(0));
}

static struct model_result posix_memalign_result(size_t a, size_t n)
{
	void *p = &slots;
	int err = os_posix_memalign(&p, a, n);

	if (errno != (err != 0 ? err : ERRNO_BEFORE))
		witness_differ("os_posix_memalign: returned %d, errno %d", err,
			       errno);
	if (err != 0 && p != &slots)
		witness_differ("os_posix_memalign: failed, but stored %p", p);
	return (struct model_result){err ? 0 : (uintptr_t)p, err};
}

static struct model_result call_library(const struct step *s, struct slot *at)
{
	void *p = NULL;
	int err;

	errno = ERRNO_BEFORE;
	switch (s->call) {
	case CALL_MALLOC:
		p = os_malloc(s->n);
		break;
	case CALL_CALLOC:
		p = os_calloc(s->k, s->n);
		break;
	case CALL_REALLOC:
		p = os_realloc(at->ptr, s->n);
		break;
	case CALL_REALLOCARRAY:
		p = os_reallocarray(at->ptr, s->k, s->n);
		break;
	case CALL_FREE:
		os_free(at->ptr);
		break;
	case CALL_FREE_SIZED:
		if (at->alignment != 0)
			os_free_aligned_sized(at->ptr, at->alignment,
					      at->asked);
		else
			os_free_sized(at->ptr, at->asked);
		break;
	case CALL_ALIGNED_ALLOC:
		p = os_aligned_alloc(s->k, s->n);
		break;
	case CALL_MEMALIGN:
		p = os_memalign(s->k, s->n);
		break;
	case CALL_POSIX_MEMALIGN:
		return posix_memalign_result(s->k, s->n);
	default:
		p = os_realloc(at->freed, s->n);
		break;
	}
	err = errno == ERRNO_BEFORE ? 0 : errno;
	return (struct model_result){(uintptr_t)p, err};
}

static struct model_result call_model(const struct step *s,
				      const struct slot *at)
{
	uintptr_t p = (uintptr_t)at->ptr;

	switch (s->call) {
	case CALL_MALLOC:
		return model_malloc(&model, s->n);
	case CALL_CALLOC:
		return model_calloc(&model, s->k, s->n);
	case CALL_REALLOC:
		return model_realloc(&model, p, s->n);
	case CALL_REALLOCARRAY:
		return model_reallocarray(&model, p, s->k, s->n);
	case CALL_ALIGNED_ALLOC:
		return model_aligned_alloc(&model, s->k, s->n);
	case CALL_MEMALIGN:
		return model_memalign(&model, s->k, s->n);
	case CALL_POSIX_MEMALIGN:
		return model_posix_memalign(&model, s->k, s->n);
	case CALL_REALLOC_FREED:
		return model_realloc(&model, (uintptr_t)at->freed, s->n);
	default:
		model_free(&model, p);
		return (struct model_result){0, 0};
	}
}

static bool call_allocates(enum call call)
{
	return call == CALL_MALLOC || call == CALL_CALLOC ||
	       (call >= CALL_ALIGNED_ALLOC && call <= CALL_POSIX_MEMALIGN);
}

static bool call_resizes(enum call call)
{
	return call == CALL_REALLOC || call == CALL_REALLOCARRAY;
}

/* Rule 17 speaks of a freed block only while its old header is intact. */
static bool can_run(const struct step *s, const struct slot *at)
{
	const struct model_block *b;

	if (call_allocates(s->call))
		return at->ptr == NULL;
	if (s->call != CALL_REALLOC_FREED)
		return true;
	b = model_find(&model, (uintptr_t)at->freed);
	if (b != NULL)
		return b->status == MODEL_FREE;
	return model_is_inside_free(&model, (uintptr_t)at->freed) &&
	       memcmp(at->freed - META, at->freed_header, 16) == 0;
}

/* Freed blocks whose old headers lie in what is now, or touches, block p. */
static void forget_freed(uintptr_t p)
{
	uintptr_t end = p + usable((unsigned char *)p) + META;
	size_t i;

	for (i = 0; i < SEQUENCE_SLOTS; i++)
		if ((uintptr_t)slots[i].freed > p - META &&
		    (uintptr_t)slots[i].freed < end + META)
			slots[i].freed = NULL;
}

static void note_freed(struct slot *at)
{
	at->freed = NULL;
	if (model_find(&model, (uintptr_t)at->ptr) != NULL) {
		at->freed = at->ptr;
		memcpy(at->freed_header, at->ptr - META, 16);
	}
}

/* The first kept bytes are as before; then all is filled. */
static void check_kept(struct slot *at, size_t kept, size_t old_size)
{
	size_t size = usable(at->ptr);

	forget_freed((uintptr_t)at->ptr);
	if (old_size != 0)
		check_contents(at, kept, old_size);
	else
		at->seed = (unsigned char)(at->seed + 41);
	fill(at, stride(old_size) == stride(size) ? kept : 0, size);
}

/* The slot after a call that has gone well, and its contents. */
static void settle(const struct step *s, struct slot *at, unsigned char *p,
		   size_t old_size)
{
	size_t kept;

	if (at->ptr != NULL && at->ptr != p)
		note_freed(at);
	at->ptr = p;
	if (p == NULL)
		return;
	check_header(model_find(&model, (uintptr_t)p));
	if (os_malloc_usable_size(p) != usable(p))
		witness_differ("os_malloc_usable_size(%p) is not %zu",
			       (void *)p, usable(p));
	at->asked = s->n;
	if (s->call == CALL_CALLOC || s->call == CALL_REALLOCARRAY)
		at->asked = s->k * s->n;
	at->alignment = s->call == CALL_ALIGNED_ALLOC ? s->k : 0;
	if (s->call == CALL_CALLOC)
		check_zero(p, at->asked);
	kept = old_size < at->asked ? old_size : at->asked;
	check_kept(at, kept, old_size);
}

static void run_call(const struct step *s)
{
	struct slot *at = &slots[s->slot];
	size_t old_size = usable(at->ptr);
	struct model_result is, should;

	if (old_size != 0 && !call_allocates(s->call))
		check_contents(at, old_size, old_size);
	witness_begin(s->refuse);
	is = call_library(s, at);
	witness_end();
	told->executed++;
	if (talking) {
		witness_say(" = %#zx errno %d", (size_t)is.ptr, is.err);
		witness_print();
	}
	should = call_model(s, at);
	witness_all_expected();
	if (is.ptr != should.ptr || is.err != should.err)
		witness_differ("returned %#zx errno %d; model: %#zx, %d",
			       (size_t)is.ptr, is.err, (size_t)should.ptr,
			       should.err);
	if ((uintptr_t)sbrk(0) != model.brk)
		witness_differ("the break is %p; model: %#zx", sbrk(0),
			       (size_t)model.brk);
	if (s->call == CALL_REALLOC_FREED)
		return;
	if (is.err == 0 || !call_resizes(s->call))
		settle(s, at, (unsigned char *)is.ptr, old_size);
	else if (at->ptr != NULL) /* it may have swallowed (rule 20c) */
		check_kept(at, old_size, old_size);
}

static void run_step(const struct step *s)
{
	char text[200];
	bool can = s->call == CALL_SBRK || can_run(s, &slots[s->slot]);

	if (talking && can) {
		sequence_print_step(s, text, sizeof(text));
		witness_say("  %s%s", text, s->call == CALL_SBRK ? "\n" : "");
	}
	if (s->call == CALL_SBRK)
		move_break(s);
	else if (can)
		run_call(s);
}

/* Puts the break where the sequence wants the heap to begin. */
static void prepare(const struct sequence *s, enum model_bug bug)
{
	const uintptr_t mega = 1 << 20;
	uintptr_t brk = (uintptr_t)sbrk(0);
	uintptr_t start = (brk + mega - 1) / mega * mega + s->start;

	if (sbrk((intptr_t)(start - brk)) == (void *)-1)
		witness_differ("sbrk refused by the system");
	if (!os_mallopt(OS_M_MODE, s->auto_mode ? OS_MODE_AUTO : OS_MODE_EXACT))
		witness_differ("os_mallopt refused the mode");
	os_mallopt(OS_M_WARN, 0);
	model_init(&model, &witness_system, OSMEM_CONF_ALIGNMENT,
		   (size_t)sysconf(_SC_PAGESIZE), start);
	model.bug = bug;
}

_Noreturn void replay_run(const struct sequence *s, const unsigned char *skip,
			  enum model_bug bug, bool verbose,
			  struct replay_report *report)
{
	unsigned i;

	told = report;
	witness_init(report->difference, sizeof(report->difference));
	talking = verbose;
	prepare(s, bug);
	for (i = 0; i < s->count; i++) {
		if (skip != NULL && skip[i])
			continue;
		told->step = i;
		run_step(&s->steps[i]);
		if (i % s->check_every == 0 || verbose)
			check_all();
	}
	check_all();
	check_walk();
	told->finished = true;
	_exit(0);
}
