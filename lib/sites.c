/* SPDX-License-Identifier: MIT */
/*
 * sites.c - the table of where blocks were allocated and first freed.
 *
 * Bounded, keyed by address, in a mapping of its own that is touched as it is
 * used. A place of the table holds a block until its address is allocated
 * again, or until another block needs the place: the one that was freed
 * longest ago leaves first.
 *
 * The frames come from libc's backtrace(3), which reads the unwind tables of
 * the modules: programs are compiled without frame pointers, and a chain of
 * what is none leads anywhere. It allocates when it is used first, so that is
 * done before recording begins, and it is called with no lock held. Where libc
 * has none, the threads alone are recorded.
 *
 * Where it finds the tables under ld.so's lock, no child of a process with
 * threads may use it: one that did not come along may have held that lock.
 */
#include "sites.h"

#include "die.h"
#include "print.h"
#include "sys.h"

#include <dlfcn.h>
#include <string.h>

enum {
	SITES_FRAMES = 16,
	SITES_OWN = 2, /* frames of this file */
	SITES_WAYS = 8,
	SITES_TEXT = 300,
	SITES_SETS_SHIFT = sizeof(void *) == 8 ? 14 : 11
};

#define SITES_SETS ((size_t)1 << SITES_SETS_SHIFT)

struct sites_site {
	uint32_t thread; /* 0: not known */
	uint32_t count;
	uintptr_t frames[SITES_FRAMES];
};

struct sites_block {
	uintptr_t address; /* 0: none */
	uint64_t age;
	struct sites_site sites[OSMEM_SITES];
};

OSMEM_VAR_DEFINED atomic_bool osmem_sites_on;
OSMEM_VAR_DEFINED struct osmem_lock osmem_sites_lock;

/* Under the lock, but for blocks, which is set before sites_on. */
static struct {
	struct sites_block *blocks;
	uint64_t age;
} sites;

/* Not in every libc, and a static program that has no use for it lacks it. */
int backtrace(void **frames, int count) __attribute__((weak));
int dladdr(const void *address, Dl_info *info) __attribute__((weak));

/*
 * Since 2.35 glibc finds the tables without a lock, but on ARM, and where it
 * has kept a function for that from before libgcc had one: i386, s390x, others.
 */
#if defined(DLFO_STRUCT_HAS_EH_DBASE) && \
	(defined(__x86_64__) || defined(__aarch64__) || defined(__riscv))
enum { SITES_LOCKED = 0 };
#else
enum { SITES_LOCKED = 1 };
#endif

static atomic_bool sites_frameless;

void osmem_sites_after_fork_in_child(void)
{
	if (SITES_LOCKED && !osmem_sys_is_alone())
		atomic_store_explicit(&sites_frameless, true,
				      memory_order_relaxed);
}

static __attribute__((noinline)) void sites_take_frames(struct sites_site *site)
{
	void *frames[SITES_FRAMES + SITES_OWN];
	int count = 0;
	int i;

	if (backtrace != NULL &&
	    !atomic_load_explicit(&sites_frameless, memory_order_relaxed))
		count = backtrace(frames, SITES_FRAMES + SITES_OWN);
	for (i = SITES_OWN; i < count; i++)
		site->frames[site->count++] = (uintptr_t)frames[i];
}

static struct sites_block *sites_set(uintptr_t address)
{
	uint64_t hash = (uint64_t)address * UINT64_C(0x9e3779b97f4a7c15);

	return sites.blocks + (hash >> (64 - SITES_SETS_SHIFT)) * SITES_WAYS;
}

static struct sites_block *sites_find(uintptr_t address)
{
	struct sites_block *b = sites_set(address);
	struct sites_block *end = b + SITES_WAYS;

	while (b < end && b->address != address)
		b++;
	return b < end ? b : NULL;
}

/* Whether a is to leave rather than b. */
static bool sites_leaves_first(const struct sites_block *a,
			       const struct sites_block *b)
{
	bool a_freed = a->address == 0 || a->sites[OSMEM_SITE_FREE].thread;
	bool b_freed = b->address == 0 || b->sites[OSMEM_SITE_FREE].thread;

	return a_freed != b_freed ? a_freed : a->age < b->age;
}

static struct sites_block *sites_make(uintptr_t address)
{
	struct sites_block *b = sites_set(address);
	struct sites_block *victim = b;
	int i;

	for (i = 1; i < SITES_WAYS; i++)
		if (sites_leaves_first(&b[i], victim))
			victim = &b[i];
	memset(victim, 0, sizeof(*victim));
	victim->address = address;
	return victim;
}

/* A free of what is not known, or known to be free, is a wrong one. Lock. */
static void sites_enter(uintptr_t address, enum osmem_site which,
			const struct sites_site *site)
{
	struct sites_block *b = sites_find(address);

	if (which == OSMEM_SITE_FREE) {
		if (b == NULL || b->sites[OSMEM_SITE_FREE].thread != 0)
			return;
	} else {
		if (b == NULL)
			b = sites_make(address);
		b->sites[OSMEM_SITE_FREE] = (struct sites_site){ 0 };
	}
	b->sites[which] = *site;
	b->age = ++sites.age;
}

__attribute__((noinline)) void osmem_sites_record(const void *p,
						  enum osmem_site which)
{
	struct sites_site site = { .thread = osmem_sys_thread() };

	sites_take_frames(&site);
	osmem_lock(&osmem_sites_lock);
	sites_enter((uintptr_t)p, which, &site);
	osmem_unlock(&osmem_sites_lock);
}

static bool sites_have_table(void)
{
	bool have;

	osmem_lock(&osmem_sites_lock);
	have = sites.blocks != NULL;
	osmem_unlock(&osmem_sites_lock);
	return have;
}

/* Of several threads at once one makes the table that stays. */
static bool sites_make_table(void)
{
	size_t size = SITES_SETS * SITES_WAYS * sizeof(struct sites_block);
	struct sites_site unused = { 0 };
	void *start = NULL;

	sites_take_frames(&unused);
	if (DIE(osmem_sys_map(size, &start), "mmap", size) != 0)
		return false;
	osmem_lock(&osmem_sites_lock);
	if (sites.blocks == NULL) {
		sites.blocks = start;
		start = NULL;
	}
	osmem_unlock(&osmem_sites_lock);
	if (start != NULL)
		KEEP(osmem_sys_unmap(start, size), "munmap", size);
	return true;
}

void osmem_sites_set(bool on)
{
	if (on && !sites_have_table() && !sites_make_table())
		return;
	atomic_store_explicit(&osmem_sites_on, on, memory_order_release);
}

/* --- printing --- */

/* The file's own name is enough; offsets are what addr2line wants. */
static const char *sites_file(const Dl_info *info)
{
	const char *slash = strrchr(info->dli_fname, '/');

	return slash != NULL ? slash + 1 : info->dli_fname;
}

bool osmem_sites_module(const void *p, char *buf, size_t size)
{
	Dl_info info;

	if (dladdr == NULL || dladdr(p, &info) == 0 || info.dli_fname == NULL)
		return false;
	if (info.dli_sname != NULL)
		osmem_print_to(buf, size, "%s+%#zx (%s+%#zx)",
			       sites_file(&info),
			       (uintptr_t)p - (uintptr_t)info.dli_fbase,
			       info.dli_sname,
			       (uintptr_t)p - (uintptr_t)info.dli_saddr);
	else
		osmem_print_to(buf, size, "%s+%#zx", sites_file(&info),
			       (uintptr_t)p - (uintptr_t)info.dli_fbase);
	return true;
}

/* A return address: the call is before it. */
static void sites_print_frame(unsigned int i, uintptr_t frame)
{
	char module[SITES_TEXT] = "";

	osmem_sites_module((const void *)(frame - 1), module, sizeof(module));
	osmem_print(2, "%s:   #%u %#zx %s\n", OSMEM_NAME, i, frame, module);
}

static void sites_print_site(const struct sites_site *site, const char *what)
{
	unsigned int i;

	if (site->thread == 0)
		return;
	osmem_print(2, "%s: %s by thread %u%s\n", OSMEM_NAME, what,
		    (unsigned int)site->thread, site->count != 0 ? ":" : "");
	for (i = 0; i < site->count; i++)
		sites_print_frame(i, site->frames[i]);
}

void osmem_sites_print(const void *p, bool freed)
{
	struct sites_block copy = { 0 };
	struct sites_block *b;

	if (!atomic_load_explicit(&osmem_sites_on, memory_order_acquire) ||
	    osmem_lock_is_mine(&osmem_sites_lock))
		return;
	osmem_lock(&osmem_sites_lock);
	b = sites_find((uintptr_t)p);
	if (b != NULL)
		copy = *b;
	osmem_unlock(&osmem_sites_lock);
	sites_print_site(&copy.sites[OSMEM_SITE_ALLOC], "allocated");
	if (freed)
		sites_print_site(&copy.sites[OSMEM_SITE_FREE], "first freed");
}
