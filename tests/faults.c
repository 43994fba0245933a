/* SPDX-License-Identifier: MIT */
/*
 * faults.c - the wrappers around the library's system calls.
 *
 * All state is atomic, for tests with threads; a plan is made while nobody
 * else allocates. Nothing here allocates: the library is in the middle of a
 * call.
 */
#include <config.h>

#include "faults.h"

#include "sys.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

typedef void (*faults_handler)(void);

static struct {
	atomic_uint set;
	atomic_bool on;
	atomic_ulong left; /* calls of the set until one fails */
	atomic_ulong refused;
	atomic_ulong calls[FAULTS_CALLS];
	atomic_ulong until; /* calls until the handler */
	_Atomic(faults_handler) handler;
	atomic_bool planned; /* the environment has been read */
} faults;

void faults_arm(unsigned set, unsigned long nth, bool on)
{
	faults.on = on;
	faults.left = nth;
	faults.set = set;
	faults.planned = true;
}

void faults_disarm(void)
{
	faults.set = 0;
}

void faults_interrupt(unsigned long nth, void (*fn)(void))
{
	faults.handler = NULL;
	faults.until = nth;
	faults.handler = fn;
}

static void faults_handle(void)
{
	faults_handler fn = faults.handler;

	if (fn == NULL || --faults.until != 0)
		return;
	faults.handler = NULL;
	fn();
}

unsigned long faults_calls(unsigned set)
{
	unsigned long calls = 0;
	unsigned call;

	for (call = 0; call < FAULTS_CALLS; call++)
		if (set & FAULTS_SET(call))
			calls += faults.calls[call];
	return calls;
}

unsigned long faults_refused(void)
{
	return faults.refused;
}

const char *faults_name(enum faults_call call)
{
	static const char *const names[] = {"map",     "unmap",  "grow_break",
					    "reserve", "commit", "purge"};

	return names[call];
}

static void faults_plan(void)
{
	const char *plan = getenv(FAULTS_ENVIRONMENT);
	unsigned long nth;
	unsigned set;
	int on;

	faults.planned = true;
	if (plan != NULL && sscanf(plan, "%u,%lu,%d", &set, &nth, &on) == 3)
		faults_arm(set, nth, on != 0);
}

/* Counts a call; whether it shall fail. */
static bool faults_strike(enum faults_call call)
{
	if (!faults.planned)
		faults_plan();
	faults.calls[call]++;
	faults_handle();
	if (!(faults.set & FAULTS_SET(call)))
		return false;
	if (faults.left > 1) {
		faults.left--;
		return false;
	}
	if (!faults.on)
		faults.set = 0;
	faults.refused++;
	return true;
}

int __real_osmem_sys_map(size_t size, void **out);
int __real_osmem_sys_unmap(void *start, size_t size);
int __real_osmem_sys_grow_break(size_t size, void **out);
int __real_osmem_sys_reserve(size_t size, void **out);
int __real_osmem_sys_commit(void *start, size_t size);
int __real_osmem_sys_purge(void *start, size_t size);
int __wrap_osmem_sys_map(size_t size, void **out);
int __wrap_osmem_sys_unmap(void *start, size_t size);
int __wrap_osmem_sys_grow_break(size_t size, void **out);
int __wrap_osmem_sys_reserve(size_t size, void **out);
int __wrap_osmem_sys_commit(void *start, size_t size);
int __wrap_osmem_sys_purge(void *start, size_t size);

int __wrap_osmem_sys_map(size_t size, void **out)
{
	if (faults_strike(FAULTS_MAP))
		return ENOMEM;
	return __real_osmem_sys_map(size, out);
}

int __wrap_osmem_sys_unmap(void *start, size_t size)
{
	if (faults_strike(FAULTS_UNMAP))
		return ENOMEM;
	return __real_osmem_sys_unmap(start, size);
}

int __wrap_osmem_sys_grow_break(size_t size, void **out)
{
	if (faults_strike(FAULTS_GROW_BREAK))
		return ENOMEM;
	return __real_osmem_sys_grow_break(size, out);
}

int __wrap_osmem_sys_reserve(size_t size, void **out)
{
	if (faults_strike(FAULTS_RESERVE))
		return ENOMEM;
	return __real_osmem_sys_reserve(size, out);
}

int __wrap_osmem_sys_commit(void *start, size_t size)
{
	if (faults_strike(FAULTS_COMMIT))
		return ENOMEM;
	return __real_osmem_sys_commit(start, size);
}

int __wrap_osmem_sys_purge(void *start, size_t size)
{
	if (faults_strike(FAULTS_PURGE))
		return EINVAL;
	return __real_osmem_sys_purge(start, size);
}
