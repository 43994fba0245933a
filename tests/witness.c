/* SPDX-License-Identifier: MIT */
/*
 * witness.c - the library's system calls, noted, refused, and compared.
 *
 * Belongs to one thread of a process that runs one sequence of calls. Text is
 * formatted on the stack and written with write(2): libc's malloc would move
 * the break.
 */
#include <config.h>

#include "witness.h"

#include "sequence.h"
#include "sys.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <unistd.h>

#define EVENTS_MAX 8

enum event_kind { EVENT_BRK, EVENT_MAP, EVENT_UNMAP };

/* brk: a is where to. map: a the address, b the length. unmap: both. */
struct event {
	enum event_kind kind;
	bool ok;
	uintptr_t a;
	size_t b;
};

static const char *const name[] = {"brk", "mmap", "munmap"};

static struct event events[EVENTS_MAX];
static unsigned event_count, event_next, refuse, brk_calls;
static char *differ_text;
static size_t differ_size;

void witness_init(char *text, size_t size)
{
	differ_text = text;
	differ_size = size;
}

void witness_say(const char *format, ...)
{
	char text[500];
	va_list ap;
	int length;

	va_start(ap, format);
	length = vsnprintf(text, sizeof(text), format, ap);
	va_end(ap);
	if (length > (int)sizeof(text) - 1)
		length = (int)sizeof(text) - 1;
	if (length < 0 || write(STDOUT_FILENO, text, (size_t)length) < 0)
		_exit(2);
}

void witness_differ(const char *format, ...)
{
	va_list ap;

	va_start(ap, format);
	vsnprintf(differ_text, differ_size, format, ap);
	va_end(ap);
	_exit(1);
}

void witness_begin(unsigned refuse_these)
{
	refuse = refuse_these;
	event_count = event_next = brk_calls = 0;
}

void witness_end(void)
{
	refuse = 0;
}

void witness_all_expected(void)
{
	if (event_next != event_count)
		witness_differ("%u system calls; model: %u", event_count,
			       event_next);
}

void witness_print(void)
{
	unsigned i;

	for (i = 0; i < event_count; i++)
		witness_say("%s %s %#zx %zu%s", i ? "," : ";",
			    name[events[i].kind], (size_t)events[i].a,
			    events[i].b, events[i].ok ? "" : " refused");
	witness_say("\n");
}

/* The library's system calls. */

int __real_osmem_sys_map(size_t size, void **out);
int __real_osmem_sys_unmap(void *start, size_t size);
int __real_osmem_sys_grow_break(size_t size, void **out);
int __wrap_osmem_sys_map(size_t size, void **out);
int __wrap_osmem_sys_unmap(void *start, size_t size);
int __wrap_osmem_sys_grow_break(size_t size, void **out);

static void note(enum event_kind kind, bool ok, uintptr_t a, size_t b)
{
	if (event_count == EVENTS_MAX)
		witness_differ("more than %d system calls", EVENTS_MAX);
	events[event_count++] = (struct event){kind, ok, a, b};
}

int __wrap_osmem_sys_map(size_t size, void **out)
{
	int err = ENOMEM;

	if (!(refuse & REFUSE_MAP))
		err = __real_osmem_sys_map(size, out);
	note(EVENT_MAP, err == 0, err == 0 ? (uintptr_t)*out : 0, size);
	return err;
}

int __wrap_osmem_sys_unmap(void *start, size_t size)
{
	int err = __real_osmem_sys_unmap(start, size);

	note(EVENT_UNMAP, err == 0, (uintptr_t)start, size);
	return err;
}

int __wrap_osmem_sys_grow_break(size_t size, void **out)
{
	uintptr_t to = (uintptr_t)sbrk(0) + size;
	unsigned bit = brk_calls++ == 0 ? REFUSE_BRK_1 : REFUSE_BRK_2;
	int err = ENOMEM;

	if (!(refuse & bit))
		err = __real_osmem_sys_grow_break(size, out);
	note(EVENT_BRK, err == 0, to, 0);
	return err;
}

/* The model's system: what it asks for must have happened, in this order. */

static const struct event *happened(enum event_kind kind, uintptr_t a, size_t b)
{
	const struct event *e = &events[event_next];

	if (event_next == event_count)
		witness_differ("model: %s %#zx %zu; library: no system call",
			       name[kind], (size_t)a, b);
	if (e->kind != kind || (kind != EVENT_MAP && e->a != a) || e->b != b)
		witness_differ("model: %s %#zx %zu; library: %s %#zx %zu",
			       name[kind], (size_t)a, b, name[e->kind],
			       (size_t)e->a, e->b);
	event_next++;
	return e;
}

static bool model_grow_break(uintptr_t to)
{
	return happened(EVENT_BRK, to, 0)->ok;
}

static uintptr_t model_map(size_t length)
{
	return happened(EVENT_MAP, 0, length)->a;
}

static void model_unmap(uintptr_t start, size_t length)
{
	happened(EVENT_UNMAP, start, length);
}

const struct model_system witness_system = {model_grow_break, model_map,
					    model_unmap};
