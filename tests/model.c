/* SPDX-License-Identifier: MIT */
/*
 * model.c - the reference model: the contract, rule by rule.
 *
 * Written to be compared with the text, not to be fast; the numbers in the
 * comments are the rules'. A plain request is an aligned one (rule 28) with
 * the alignment ALIGN: every heap block is so aligned, so no gap ever arises
 * and the steps are those of rule 8. Where the rules are silent the choice is
 * marked "Choice".
 */
#include "model.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define NONE SIZE_MAX

static size_t up(const struct model *m, size_t n)
{
	return (n + m->align - 1) / m->align * m->align;
}

static size_t total(const struct model *m, size_t n)
{
	return up(m, n) + MODEL_META;
}

static uintptr_t end_of(const struct model_block *b)
{
	return b->addr + MODEL_META + b->size;
}

static struct model_result result(uintptr_t ptr)
{
	return (struct model_result){ptr, ptr ? 0 : ENOMEM};
}

static struct model_result failure(int err)
{
	return (struct model_result){0, err};
}

void model_init(struct model *m, const struct model_system *system,
		size_t align, size_t page, uintptr_t brk)
{
	m->system = system;
	m->align = align;
	m->page = page;
	m->bug = MODEL_BUG_NONE;
	m->brk = brk;
	m->started = false;
	m->heap_count = 0;
	m->mapped_count = 0;
}

/* The lists. */

static void insert(struct model *m, size_t i, uintptr_t addr, size_t size)
{
	if (m->heap_count == MODEL_MAX)
		abort();
	memmove(&m->heap[i + 1], &m->heap[i],
		(m->heap_count - i) * sizeof(m->heap[0]));
	m->heap_count++;
	m->heap[i] = (struct model_block){.addr = addr, .size = size};
}

static void remove_from(struct model_block *list, size_t *count, size_t i)
{
	(*count)--;
	memmove(&list[i], &list[i + 1], (*count - i) * sizeof(list[0]));
}

static size_t find_in(const struct model_block *list, size_t count, uintptr_t p)
{
	size_t i;

	for (i = 0; i < count; i++)
		if (list[i].addr + MODEL_META == p)
			return i;
	return NONE;
}

const struct model_block *model_find(const struct model *m, uintptr_t p)
{
	size_t i = find_in(m->heap, m->heap_count, p);

	if (i != NONE)
		return &m->heap[i];
	i = find_in(m->mapped, m->mapped_count, p);
	return i != NONE ? &m->mapped[i] : NULL;
}

bool model_is_inside_free(const struct model *m, uintptr_t p)
{
	size_t i;

	for (i = 0; i < m->heap_count; i++)
		if (m->heap[i].status == MODEL_FREE &&
		    p >= m->heap[i].addr + 2 * MODEL_META &&
		    p < end_of(&m->heap[i]))
			return true;
	return false;
}

/* 4, 23: neighbours touch; a hole between two stretches separates. */
static bool is_behind(const struct model *m, size_t i)
{
	return i + 1 < m->heap_count &&
	       end_of(&m->heap[i]) == m->heap[i + 1].addr;
}

/* Block i takes over the one right behind it. */
static void swallow(struct model *m, size_t i)
{
	m->heap[i].size += MODEL_META + m->heap[i + 1].size;
	remove_from(m->heap, &m->heap_count, i + 1);
}

/* 8b */
static void merge_all(struct model *m)
{
	size_t i = 0;

	while (i < m->heap_count) {
		if (m->heap[i].status == MODEL_FREE && is_behind(m, i) &&
		    m->heap[i + 1].status == MODEL_FREE)
			swallow(m, i);
		else
			i++;
	}
}

/* 9: a rest that holds a header and ALIGN bytes is cut off. */
static void split(struct model *m, size_t i, size_t want)
{
	size_t rest = m->heap[i].size - want;
	size_t least = MODEL_META + m->align;

	if (m->bug == MODEL_BUG_SPLIT)
		least += m->align;
	if (rest < least)
		return;
	m->heap[i].size = want;
	insert(m, i + 1, end_of(&m->heap[i]), rest - MODEL_META);
}

/* The last heap block, if it ends at the break (rule 23); or NONE. */
static size_t last_at_break(const struct model *m)
{
	size_t last = m->heap_count - 1;

	if (m->heap_count == 0 || end_of(&m->heap[last]) != m->brk)
		return NONE;
	return last;
}

static bool grow_break(struct model *m, uintptr_t to)
{
	if (!m->system->grow_break(to))
		return false;
	m->brk = to;
	return true;
}

/*
 * 10, and 28 for a > ALIGN. The payload's address, or 0.
 * Choice: a request that is mapped because the break was refused (rule 24)
 * gets just the mapping that it would have got above the threshold.
 */
static uintptr_t map(struct model *m, size_t n, size_t a)
{
	size_t extra = a > m->align ? a : 0;
	size_t length = total(m, n) + extra;
	uintptr_t start = m->system->map(length);
	uintptr_t p = start + MODEL_META;

	if (start == 0)
		return 0;
	if (extra != 0)
		p = (p + a - 1) / a * a;
	if (m->mapped_count == MODEL_MAX)
		abort();
	m->mapped[m->mapped_count++] = (struct model_block){
		p - MODEL_META, up(m, n), MODEL_MAPPED, start, length};
	return p;
}

/*
 * 8a. Choice: a start that is not aligned (somebody else used the break) is
 * padded as in rule 23, and the block is PREALLOC - 32 all the same. A
 * refusal leaves the heap unused: this request is mapped (rule 24), and the
 * next one for the heap is again the first.
 */
static bool preallocate(struct model *m)
{
	uintptr_t start = up(m, m->brk);

	if (!grow_break(m, start + MODEL_PREALLOC))
		return false;
	insert(m, 0, start, MODEL_PREALLOC - MODEL_META);
	m->started = true;
	return true;
}

/* 28: the lowest payload in a block at addr, the gap 0 or a whole block. */
static uintptr_t place(const struct model *m, uintptr_t addr, size_t a)
{
	uintptr_t p = (addr + MODEL_META + a - 1) / a * a;

	while (p - MODEL_META != addr &&
	       p - MODEL_META - addr < MODEL_META + m->align)
		p += a;
	return p;
}

static bool fits(const struct model *m, size_t i, size_t want, size_t a)
{
	const struct model_block *b = &m->heap[i];

	return b->status == MODEL_FREE &&
	       place(m, b->addr, a) + want <= end_of(b);
}

/* 8c; the list is in address order, so the first of equals is the lowest. */
static size_t best_fit(const struct model *m, size_t want, size_t a)
{
	size_t best = NONE, i;

	for (i = 0; i < m->heap_count; i++) {
		if (!fits(m, i, want, a))
			continue;
		if (best == NONE || m->heap[i].size < m->heap[best].size)
			best = i;
		if (m->bug == MODEL_BUG_FIRST_FIT)
			break;
	}
	return best;
}

/* 8e, 8f, 23: a free block that fits exactly after one growth; or NONE. */
static size_t grow_heap(struct model *m, size_t want, size_t a)
{
	size_t last = last_at_break(m);
	uintptr_t from = up(m, m->brk);
	uintptr_t to;

	if (last != NONE && m->heap[last].status == MODEL_FREE)
		from = m->heap[last].addr;
	to = place(m, from, a) + want;
	if (!grow_break(m, to))
		return NONE;
	if (last != NONE && m->heap[last].status == MODEL_FREE) {
		m->heap[last].size = to - from - MODEL_META;
		return last;
	}
	insert(m, m->heap_count, from, to - from - MODEL_META);
	return m->heap_count - 1;
}

/* 8d: the block's part from the payload's place on, the tail cut by 9. */
static uintptr_t take(struct model *m, size_t i, size_t want, size_t a)
{
	struct model_block *b = &m->heap[i];
	size_t gap = place(m, b->addr, a) - MODEL_META - b->addr;

	if (gap != 0) {
		insert(m, i + 1, b->addr + gap, b->size - gap);
		b->size = gap - MODEL_META;
		i++;
	}
	m->heap[i].status = MODEL_USED;
	split(m, i, want);
	return m->heap[i].addr + MODEL_META;
}

/* 8, 24 */
static uintptr_t take_from_heap(struct model *m, size_t n, size_t a)
{
	size_t want = up(m, n), i;

	if (!m->started && !preallocate(m))
		return map(m, n, a);
	merge_all(m);
	i = best_fit(m, want, a);
	if (i == NONE)
		i = grow_heap(m, want, a);
	if (i == NONE)
		return map(m, n, a);
	return take(m, i, want, a);
}

/* 6, 7, 13, 24, 28 */
static struct model_result allocate(struct model *m, size_t n, size_t a,
				    size_t threshold)
{
	size_t extra = a > m->align ? a : 0;

	if (n == 0)
		return failure(0);
	if (n > PTRDIFF_MAX)
		return failure(ENOMEM);
	if (total(m, n) + extra >= threshold)
		return result(map(m, n, a));
	return result(take_from_heap(m, n, a));
}

struct model_result model_malloc(struct model *m, size_t n)
{
	return allocate(m, n, m->align, MODEL_MMAP_THRESHOLD);
}

/* 12, 13 */
struct model_result model_calloc(struct model *m, size_t k, size_t n)
{
	if (k == 0 || n == 0)
		return failure(0);
	if (k > SIZE_MAX / n)
		return failure(ENOMEM);
	return allocate(m, k * n, m->align, m->page);
}

/* 15, 16 */
void model_free(struct model *m, uintptr_t p)
{
	size_t i;

	if (p == 0)
		return;
	i = find_in(m->heap, m->heap_count, p);
	if (i != NONE) {
		m->heap[i].status = MODEL_FREE;
		if (m->bug == MODEL_BUG_FREE_MERGES)
			merge_all(m);
		return;
	}
	i = find_in(m->mapped, m->mapped_count, p);
	if (i == NONE)
		abort();
	m->system->unmap(m->mapped[i].start, m->mapped[i].length);
	remove_from(m->mapped, &m->mapped_count, i);
}

/* 18, 21, 22 */
static struct model_result leave(struct model *m, uintptr_t p, size_t n)
{
	struct model_result q = model_malloc(m, n);

	if (q.ptr != 0)
		model_free(m, p);
	return q;
}

/* 24, where 20a is refused */
static struct model_result leave_for_mapping(struct model *m, uintptr_t p,
					     size_t n)
{
	struct model_result q = result(map(m, n, m->align));

	if (q.ptr != 0)
		model_free(m, p);
	return q;
}

/* 20, for the heap block i that is too small */
static struct model_result enlarge(struct model *m, size_t i, size_t n)
{
	uintptr_t p = m->heap[i].addr + MODEL_META;
	size_t want = up(m, n);

	if (i == last_at_break(m)) {
		if (!grow_break(m, m->brk + want - m->heap[i].size))
			return leave_for_mapping(m, p, n);
		m->heap[i].size = want;
		return result(p);
	}
	while (m->heap[i].size < want && is_behind(m, i) &&
	       m->heap[i + 1].status == MODEL_FREE)
		swallow(m, i);
	if (m->heap[i].size < want)
		return leave(m, p, n);
	split(m, i, want);
	return result(p);
}

/* 17 to 22. Choice: with n above PTRDIFF_MAX nothing is swallowed first. */
struct model_result model_realloc(struct model *m, uintptr_t p, size_t n)
{
	size_t i;

	if (p == 0)
		return model_malloc(m, n);
	if (n == 0) {
		model_free(m, p);
		return failure(0);
	}
	i = find_in(m->heap, m->heap_count, p);
	if ((i != NONE && m->heap[i].status == MODEL_FREE) ||
	    (i == NONE && model_is_inside_free(m, p)))
		return failure(EINVAL);
	if (n > PTRDIFF_MAX)
		return failure(ENOMEM);
	if (i == NONE)
		return leave(m, p, n);
	if (up(m, n) <= m->heap[i].size) {
		split(m, i, up(m, n));
		return result(p);
	}
	if (total(m, n) >= MODEL_MMAP_THRESHOLD)
		return leave(m, p, n);
	return enlarge(m, i, n);
}

struct model_result model_reallocarray(struct model *m, uintptr_t p, size_t k,
				       size_t n)
{
	if (n != 0 && k > SIZE_MAX / n)
		return failure(ENOMEM);
	return model_realloc(m, p, k * n);
}

static bool is_power_of_two(size_t a)
{
	return a != 0 && (a & (a - 1)) == 0;
}

/* Choice: an alignment that is wrong is told even when n is 0. */
struct model_result model_aligned_alloc(struct model *m, size_t a, size_t n)
{
	if (!is_power_of_two(a))
		return failure(EINVAL);
	if (a < m->align)
		a = m->align;
	return allocate(m, n, a, MODEL_MMAP_THRESHOLD);
}

struct model_result model_memalign(struct model *m, size_t a, size_t n)
{
	size_t power = 1;

	while (power < a)
		power *= 2;
	return model_aligned_alloc(m, power, n);
}

struct model_result model_posix_memalign(struct model *m, size_t a, size_t n)
{
	if (a % sizeof(void *) != 0)
		return failure(EINVAL);
	return model_aligned_alloc(m, a, n);
}

void model_foreign_break(struct model *m, uintptr_t brk)
{
	m->brk = brk;
}
