/* SPDX-License-Identifier: MIT */
/*
 * ops_system.c - requests and system calls that fail, address space that is
 * short, a break that others move, handlers that interrupt.
 */
#include <config.h>

#include "../faults.h"
#include "nested.h"
#include "ops.h"
#include "stretch.h"

#include <errno.h>
#include <fcntl.h>
#include <osmem.h>
#include <sys/resource.h>

/* AddressSanitizer's own mappings are larger than any limit. */
#if defined(__SANITIZE_ADDRESS__)
#define OPS_HAS_SHADOW true
#elif defined(__has_feature)
#define OPS_HAS_SHADOW (__has_feature(address_sanitizer))
#else
#define OPS_HAS_SHADOW false
#endif

enum {
	OPS_BREAKS = 8, /* times that the break is moved */
	OPS_GUESTS = 16,
	OPS_SLOW = 33 << 20 /* for no list of slots */
};

/* --- failures --- */

static bool ops_rule, ops_plan, ops_limit;

static void ops_note_failures(void)
{
	ops_may_fail = ops_rule || ops_plan || ops_limit;
}

/* Requests that fail: os_set_fault(). */
void ops_do_rule(struct fuzz_input *in)
{
	static const char *const rules[] = {"no", "nth:%u", "every:%u",
					    "p=0.%u:7"};
	unsigned int which = fuzz_byte(in) % 4, n = fuzz_byte(in) % 32 + 1;
	char rule[32];

	snprintf(rule, sizeof(rule), rules[which], n);
	FUZZ_MUST(os_set_fault(rule) == 0, "\"%s\"", rule);
	ops_rule = which != 0;
	ops_note_failures();
}

/* System calls that fail: one, or all from one on, or none any more. */
void ops_do_faults(struct fuzz_input *in)
{
	unsigned int set = fuzz_byte(in) & FAULTS_ALL, when = fuzz_byte(in);

	faults_disarm();
	if (set != 0)
		faults_arm(set, when % 16 + 1, (when & 0x80) != 0);
	ops_plan = set != 0;
	ops_note_failures();
}

bool ops_is_short(void)
{
	return ops_limit;
}

/* Bytes of address space that the process has. */
static size_t ops_space(void)
{
	int fd = open("/proc/self/statm", O_RDONLY | O_CLOEXEC);
	char text[64] = "";

	if (fd < 0)
		return 0;
	if (read(fd, text, sizeof(text) - 1) < 0)
		text[0] = '\0';
	close(fd);
	return strtoul(text, NULL, 10) * (size_t)sysconf(_SC_PAGESIZE);
}

/* A limit on address space, some MiB above what there is, or none. */
void ops_do_limit(struct fuzz_input *in)
{
	unsigned int room = fuzz_byte(in);
	struct rlimit limit;

	if (OPS_HAS_SHADOW || getrlimit(RLIMIT_AS, &limit) != 0)
		return;
	limit.rlim_cur =
		room == 0 ? limit.rlim_max : ops_space() + ((size_t)room << 18);
	if (setrlimit(RLIMIT_AS, &limit) != 0)
		return;
	ops_limit = room != 0;
	ops_note_failures();
}

/* --- the break --- */

static struct ops_break {
	unsigned char *start;
	size_t size;
} ops_breaks[OPS_BREAKS];

static unsigned int ops_break_count;

/* Somebody else's bytes, which nobody touches (rule 23). */
void ops_do_break(struct fuzz_input *in)
{
	size_t size = (size_t)fuzz_byte(in) * 48 + 1;
	struct ops_break *b = &ops_breaks[ops_break_count];
	void *p;

	if (ops_break_count == OPS_BREAKS)
		return;
	p = sbrk((intptr_t)size);
	if (p == (void *)-1)
		return;
	*b = (struct ops_break){p, size};
	memset(p, 0xb5, size);
	ops_break_count++;
}

/*
 * Somebody moves it down, who has not moved it up: our blocks are gone. Before
 * it moves up again the library has to look, or it takes their bytes for ours.
 */
void ops_do_lower(struct fuzz_input *in)
{
	size_t by = fuzz_bytes(in, 2) * 8;
	char *end = sbrk(0);
	struct osmem_stretch s;

	if (end != osmem_stretch.break_end || !osmem_stretch_find(end - 1, &s))
		return;
	if (by > (size_t)(end - s.start))
		by = (size_t)(end - s.start);
	if (sbrk(-(intptr_t)by) != end) /* musl does not */
		return;
	ops_lose(end - by, end);
	ops_lose_crowd(end - by, end);
	FUZZ_MUST(os_heap_check() == 0, "os_heap_check()");
}

void ops_check_breaks(void)
{
	for (unsigned int i = 0; i < ops_break_count; i++)
		for (size_t j = 0; j < ops_breaks[i].size; j++)
			FUZZ_MUST(ops_breaks[i].start[j] == 0xb5,
				  "byte %zu above the break that was", j);
}

/* --- handlers --- */

/* What handlers have allocated while they interrupted a call. */
static struct ops_guest {
	unsigned char *p;
	size_t size;
} ops_guests[OPS_GUESTS];

static unsigned char ops_handler_bytes[3];
static bool ops_handled;

static unsigned char ops_guest_byte(const struct ops_guest *g, size_t i)
{
	return (unsigned char)((size_t)(g - ops_guests) * 17 + i * 5);
}

static void ops_leave_guest(struct ops_guest *g)
{
	if (g->p == NULL)
		return;
	for (size_t i = 0; i < g->size; i++)
		FUZZ_MUST(g->p[i] == ops_guest_byte(g, i), "byte %zu", i);
	os_free(g->p);
	ops_remember(g->p);
	g->p = NULL;
}

bool ops_is_guest(const void *p)
{
	for (unsigned int i = 0; i < OPS_GUESTS; i++)
		if (ops_guests[i].p == p)
			return true;
	return false;
}

void ops_end_guests(void)
{
	for (unsigned int i = 0; i < OPS_GUESTS; i++)
		ops_leave_guest(&ops_guests[i]);
}

/* Statistics do not know a handler's blocks; they would any other. */
static void ops_enter_guest(struct ops_guest *g, size_t n)
{
	unsigned char *p = os_malloc(n);

	if (!osmem_nested_holds(p)) {
		os_free(p);
		return;
	}
	*g = (struct ops_guest){p, os_malloc_usable_size(p)};
	FUZZ_MUST(g->size >= n, "%zu of %zu bytes", g->size, n);
	for (size_t i = 0; i < g->size; i++)
		p[i] = ops_guest_byte(g, i);
}

static void ops_handler(void)
{
	const unsigned char *bytes = ops_handler_bytes;
	struct ops_guest *g = &ops_guests[bytes[0] % OPS_GUESTS];
	struct ops_block *b = &ops_live[bytes[2] % OPS_LIVE];
	const struct ops_block *busy = ops_busy;
	int err = errno;

	ops_leave_guest(g);
	ops_enter_guest(g, (size_t)bytes[1] * 33);
	if (b != busy)
		ops_release(b, false);
	ops_busy = busy;
	ops_handled = true;
	errno = err;
}

/* It waits for a call that takes the slow path, as this one does. */
void ops_settle(void)
{
	if (!ops_handled)
		return;
	ops_handled = false;
	os_free(os_malloc(OPS_SLOW));
}

/* One comes at some system call of the library. */
void ops_do_interrupt(struct fuzz_input *in)
{
	unsigned int nth = fuzz_byte(in) % 16 + 1;

	faults_interrupt(nth, NULL);
	for (unsigned int i = 0; i < 3; i++)
		ops_handler_bytes[i] = (unsigned char)fuzz_byte(in);
	faults_interrupt(nth, ops_handler);
}
