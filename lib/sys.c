/* SPDX-License-Identifier: MIT */
/*
 * sys.c - system calls, through libc's functions so that its own idea of the
 * break stays right and tools that interpose them see everything.
 *
 * Owns no lock and no state but "has been threaded". Must never allocate,
 * print or take a lock.
 */
#include "sys.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/futex.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#ifndef MAP_NORESERVE
#define MAP_NORESERVE 0
#endif

/* The call's own time, whatever time_t is; some machines have one call only. */
#ifdef SYS_futex
typedef long sys_futex_time;
#else
#define SYS_futex SYS_futex_time64
typedef long long sys_futex_time;
#endif

extern char **environ;

#ifdef __GLIBC__
extern char __libc_single_threaded __attribute__((weak));
extern void *__curbrk __attribute__((weak));
#endif

static void *const sys_unknown = NULL;
OSMEM_VAR_DEFINED void *const *osmem_sys_break_at = &sys_unknown;
OSMEM_VAR_DEFINED const char *osmem_sys_alone_at = (const char *)&sys_unknown;

static int sys_mmap(size_t size, int prot, int flags, void **out)
{
	int saved = errno;
	void *p = mmap(NULL, size, prot, flags, -1, 0);
	int err = 0;

	if (p == MAP_FAILED)
		err = errno;
	else
		*out = p;
	errno = saved;
	return err;
}

/* The errno of a call that returned result, with errno as it was before. */
static int sys_result(long result, int saved)
{
	int err = result < 0 ? errno : 0;

	errno = saved;
	return err;
}

int osmem_sys_map(size_t size, void **out)
{
	return sys_mmap(size, PROT_READ | PROT_WRITE,
			MAP_PRIVATE | MAP_ANONYMOUS, out);
}

int osmem_sys_unmap(void *start, size_t size)
{
	int saved = errno;

	return sys_result(munmap(start, size), saved);
}

int osmem_sys_share(const char *path, size_t size, void **out)
{
	int saved = errno;
	int fd = open(path, O_RDWR | O_CLOEXEC);
	void *p = MAP_FAILED;
	struct stat file;
	int err;

	if (fd >= 0 && fstat(fd, &file) == 0 &&
	    (file.st_size >= (off_t)size || ftruncate(fd, (off_t)size) == 0))
		p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	err = p == MAP_FAILED ? errno : 0;
	if (fd >= 0)
		close(fd);
	if (err == 0)
		*out = p;
	errno = saved;
	return err;
}

int osmem_sys_reserve(size_t size, void **out)
{
	return sys_mmap(size, PROT_NONE,
			MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, out);
}

int osmem_sys_commit(void *start, size_t size)
{
	int saved = errno;

	return sys_result(mprotect(start, size, PROT_READ | PROT_WRITE), saved);
}

int osmem_sys_guard(void *start, size_t size)
{
	int saved = errno;

	return sys_result(mprotect(start, size, PROT_NONE), saved);
}

/* What AddressSanitizer has been told of the memory does not hold for us. */
static OSMEM_ANY_BYTES char sys_exchange(volatile char *p, char value)
{
	char before = *p;

	*p = value;
	return before;
}

/*
 * Emulators and sandboxes may do nothing and say that it is done, so the first
 * purge looks. Where memory keeps its contents each one looks, and fails.
 */
int osmem_sys_purge(void *start, size_t size)
{
	/* Relaxed: everybody who is too early finds out the same. */
	static atomic_bool known;
	int saved = errno;
	char before;
	int err;

	if (atomic_load_explicit(&known, memory_order_relaxed))
		return sys_result(madvise(start, size, MADV_DONTNEED), saved);
	before = sys_exchange(start, 1);
	err = sys_result(madvise(start, size, MADV_DONTNEED), saved);
	if (sys_exchange(start, before) != 0 && err == 0)
		err = ENOSYS;
	if (err != 0)
		return err;
	sys_exchange(start, 0);
	atomic_store_explicit(&known, true, memory_order_relaxed);
	return 0;
}

static unsigned long sys_milliseconds(clockid_t clock)
{
	struct timespec now = { 0, 0 };

	clock_gettime(clock, &now);
	return (unsigned long)now.tv_sec * 1000 +
	       (unsigned long)now.tv_nsec / 1000000;
}

/* A new mapping in place of the old one: that takes one system call. */
int osmem_sys_drop(void *start, size_t size)
{
	int saved = errno;
	void *p = mmap(start, size, PROT_NONE,
		       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED,
		       -1, 0);

	return sys_result(p == MAP_FAILED ? -1 : 0, saved);
}

unsigned long osmem_sys_milliseconds(void)
{
	return sys_milliseconds(CLOCK_MONOTONIC_COARSE);
}

unsigned long osmem_sys_milliseconds_run(void)
{
	return sys_milliseconds(CLOCK_THREAD_CPUTIME_ID);
}

#ifdef __GLIBC__
static void *sys_sbrk(intptr_t size)
{
	return sbrk(size);
}
#else
/*
 * musl's sbrk() refuses to move the break. It is used there only where malloc
 * is ours, so nobody else moves it and remembering it is enough.
 */
static void *sys_sbrk(intptr_t size)
{
	static char *end;
	char *old;

	if (end == NULL)
		end = (char *)syscall(SYS_brk, 0);
	old = end;
	if (size == 0)
		return old;
	if ((char *)syscall(SYS_brk, old + size) != old + size)
		return (void *)-1;
	end = old + size;
	return old;
}
#endif

void *osmem_sys_break(void)
{
	/* It cannot fail, so errno is safe. */
	return sys_sbrk(0);
}

/*
 * In a namespace of dlmopen's, whose libc does not know who else moves the
 * break, sbrk(0) is a system call; there libc never says that it is alone.
 */
void osmem_sys_init(void)
{
#ifdef __GLIBC__
	if (&__libc_single_threaded != NULL)
		osmem_sys_alone_at = &__libc_single_threaded;
	if (&__curbrk != NULL && osmem_sys_is_alone())
		osmem_sys_break_at = &__curbrk;
#endif
}

int osmem_sys_grow_break(size_t size, void **out)
{
	int saved = errno;
	void *old;
	int err = 0;

	if (size > INTPTR_MAX)
		return ENOMEM;
	old = sys_sbrk((intptr_t)size);
	if (old == (void *)-1)
		err = ENOMEM;
	else
		*out = old;
	/* Another sbrk than libc's. */
	if (err == 0 && *osmem_sys_break_at != (char *)old + size)
		osmem_sys_break_at = &sys_unknown;
	errno = saved;
	return err;
}

bool osmem_sys_threaded(void)
{
	static bool threaded;

	if (!threaded)
		threaded = !osmem_sys_is_alone();
	return threaded;
}

bool osmem_sys_break_is_safe_alone(void)
{
#ifdef __GLIBC__
	return true;
#else
	return false;
#endif
}

#ifdef OSMEM_REPLACEMENT
bool osmem_sys_malloc_is_ours(void)
{
	return true;
}
#else
/*
 * The replacement's mallopt answers a magic parameter with the same number;
 * others know no such parameter and say 0 or 1.
 */
extern int sys_mallopt(int param, int value) __asm__("mallopt")
	__attribute__((weak));

bool osmem_sys_malloc_is_ours(void)
{
	int saved = errno;
	bool ours = &sys_mallopt != NULL &&
		    sys_mallopt(OSMEM_HANDSHAKE, OSMEM_HANDSHAKE) ==
			    OSMEM_HANDSHAKE;

	errno = saved;
	return ours;
}
#endif

size_t osmem_sys_page_size(void)
{
	/* Relaxed: everybody who is too early finds out the same. */
	static atomic_size_t page;
	size_t size = atomic_load_explicit(&page, memory_order_relaxed);

	if (unlikely(size == 0)) {
		size = getauxval(AT_PAGESZ);
		size = size != 0 ? size : 4096;
		atomic_store_explicit(&page, size, memory_order_relaxed);
	}
	return size;
}

static size_t sys_limit(int which)
{
	struct rlimit limit;
	int saved = errno;
	int failed = getrlimit(which, &limit);

	errno = saved;
	if (failed || limit.rlim_cur > SIZE_MAX)
		return SIZE_MAX;
	return (size_t)limit.rlim_cur;
}

bool osmem_sys_counts_space(void)
{
	return sys_limit(RLIMIT_AS) != SIZE_MAX;
}

size_t osmem_sys_space_limit(void)
{
	size_t as = sys_limit(RLIMIT_AS);
	size_t data = sys_limit(RLIMIT_DATA);

	return as < data ? as : data;
}

void osmem_sys_key(uint64_t key[2])
{
	const unsigned char *random =
		(const unsigned char *)(uintptr_t)getauxval(AT_RANDOM);
	size_t i;

	key[0] = (uintptr_t)&key ^ UINT64_C(0x9e3779b97f4a7c15);
	key[1] = (uintptr_t)environ;
	/* Mixed, so that a leaked seal says nothing of libc's own secrets. */
	for (i = 0; random != NULL && i < 16; i++) {
		uint64_t *k = &key[i & 1];

		*k = (*k ^ random[i]) * UINT64_C(0xff51afd7ed558ccd);
		*k ^= *k >> 32;
	}
}

unsigned int osmem_sys_process(void)
{
	return (unsigned int)getpid();
}

/* Early at boot, in a sandbox and before Linux 3.17 the clock has to do. */
void osmem_sys_seed(uint64_t seed[2])
{
	uint64_t random[2] = { 0, 0 };
	struct timespec now = { 0, 0 };
	int saved = errno;

	osmem_sys_key(seed);
#ifdef SYS_getrandom
	if (syscall(SYS_getrandom, random, sizeof(random), GRND_NONBLOCK) ==
	    (long)sizeof(random)) {
		seed[0] ^= random[0];
		seed[1] ^= random[1];
		errno = saved;
		return;
	}
#endif
	clock_gettime(CLOCK_MONOTONIC, &now);
	seed[0] += (uint64_t)now.tv_nsec * UINT64_C(0x9e3779b97f4a7c15);
	seed[1] += (uint64_t)getpid() * UINT64_C(0xff51afd7ed558ccd);
	errno = saved;
}

const char *osmem_sys_getenv(const char *name)
{
	char **e;

	if (environ == NULL || getauxval(AT_SECURE) != 0)
		return NULL;
	for (e = environ; *e != NULL; e++) {
		const char *a = *e;
		const char *b = name;

		while (*b != '\0' && *a == *b)
			a++, b++;
		if (*b == '\0' && *a == '=')
			return a + 1;
	}
	return NULL;
}

/* libc's write() is a cancellation point, and malloc must not be one. */
int osmem_sys_write(int fd, const char *buf, size_t size)
{
	int saved = errno;
	int err = 0;

	while (size > 0 && err == 0) {
		long n = syscall(SYS_write, fd, buf, size);

		if (n > 0) {
			buf += n;
			size -= (size_t)n;
		} else if (n == 0 || errno != EINTR) {
			err = n == 0 ? EIO : errno;
		}
	}
	errno = saved;
	return err;
}

static struct {
	int fd; /* 0: none */
	struct stat what;
} sys_stderr;

/* High, out of the way of programs that count on low descriptors. */
enum { SYS_STDERR_LEAST = 100 };

void osmem_sys_keep_stderr(void)
{
	int saved = errno;
	int fd = sys_stderr.fd;

	if (fd == 0)
		fd = fcntl(2, F_DUPFD_CLOEXEC, SYS_STDERR_LEAST);
	if (fd > 0 && fstat(fd, &sys_stderr.what) == 0)
		sys_stderr.fd = fd;
	else if (fd > 0)
		close(fd);
	errno = saved;
}

/* A program may have closed it, and opened a file of its own instead. */
int osmem_sys_kept_stderr(void)
{
	struct stat now;
	int saved = errno;
	bool same = sys_stderr.fd != 0 && fstat(sys_stderr.fd, &now) == 0 &&
		    now.st_dev == sys_stderr.what.st_dev &&
		    now.st_ino == sys_stderr.what.st_ino;

	errno = saved;
	return same ? sys_stderr.fd : 2;
}

uint32_t osmem_sys_thread(void)
{
	return (uint32_t)syscall(SYS_gettid);
}

/* A directory has a link for each of its own, and two. */
bool osmem_sys_has_company(void)
{
	int saved = errno;
	struct stat tasks;
	bool has = !osmem_sys_is_alone() &&
		   stat("/proc/self/task", &tasks) == 0 && tasks.st_nlink > 3;

	errno = saved;
	return has;
}

void osmem_sys_name_thread(const char *name)
{
	prctl(PR_SET_NAME, name);
}

/* Where nobody can sleep (a filter of system calls), others get a turn. */
static void sys_wait(const uint32_t *word, uint32_t value,
		     unsigned int milliseconds)
{
	const struct {
		sys_futex_time seconds, nanoseconds;
	} most = { 0, (sys_futex_time)milliseconds * 1000000 };
	int saved = errno;

	if (syscall(SYS_futex, word, FUTEX_WAIT_PRIVATE, value, &most, NULL,
		    0) != 0 &&
	    errno != EAGAIN && errno != EINTR && errno != ETIMEDOUT)
		sched_yield();
	errno = saved;
}

/* With a time limit, so that a wake that was refused is a delay. */
void osmem_sys_wait(const uint32_t *word, uint32_t value)
{
	sys_wait(word, value, 100);
}

/* No function of libc's: programs replace those that sleep. */
void osmem_sys_nap(unsigned int milliseconds)
{
	const uint32_t word = 0;

	sys_wait(&word, 0, milliseconds);
}

void osmem_sys_wake(const uint32_t *word)
{
	int saved = errno;

	syscall(SYS_futex, word, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0);
	errno = saved;
}

/* glibc's; recursive. */
extern void _IO_list_lock(void) __attribute__((weak));
extern void _IO_list_unlock(void) __attribute__((weak));
extern void _IO_list_resetlock(void) __attribute__((weak));

/* How often the thread that has the lock has taken it; nobody else looks. */
static int sys_files_taken;

/* As glibc does: no lock in the way of a handler's fork while it is alone. */
void osmem_sys_lock_files(void)
{
	if (!OSMEM_IS_REPLACEMENT || _IO_list_lock == NULL ||
	    osmem_sys_is_alone())
		return;
	_IO_list_lock();
	sys_files_taken++;
}

void osmem_sys_unlock_files(bool child)
{
	if (!OSMEM_IS_REPLACEMENT || sys_files_taken == 0)
		return;
	sys_files_taken--;
	if (child)
		_IO_list_resetlock();
	else
		_IO_list_unlock();
}

void osmem_sys_abort(void)
{
	abort();
}

void osmem_sys_exit(int status)
{
	_exit(status);
}
