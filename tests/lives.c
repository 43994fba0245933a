/* SPDX-License-Identifier: MIT */
/*
 * lives.c - an allocator through the turns of threads and of a process.
 *
 * Built twice (front.h). Threads in great number, detached, cancelled, ended
 * in the middle, with tiny stacks, with destructors that allocate; memory that
 * is locked; another user; a filter that ends who opens a file; exit handlers.
 * Each group has a process of its own.
 */
#define _GNU_SOURCE
#include "front.h"

#include <errno.h>
#include <limits.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define MUST(x) ((x) ? (void)0 : must_failed(#x, __LINE__))

static void must_failed(const char *what, int line)
{
	dprintf(2, "lives.c:%d: %s (errno %d)\n", line, what, errno);
	_exit(70);
}

enum { SKIPPED = 77, BLOCKS = 30 };

/* Blocks of all kinds, with a pattern. */
static void take(unsigned char **blocks)
{
	size_t size = 8;
	int i;

	for (i = 0; i < BLOCKS; i++) {
		blocks[i] = front_malloc(size);
		MUST(blocks[i] != NULL);
		memset(blocks[i], i + 1, size);
		blocks[i] = front_realloc(blocks[i], size + size / 3);
		MUST(blocks[i] != NULL && blocks[i][0] == i + 1 &&
		     blocks[i][size - 1] == i + 1);
		size = size > 200000 ? 8 : size * 3 / 2;
	}
}

static void give(unsigned char **blocks)
{
	int i;

	for (i = 0; i < BLOCKS; i++) {
		MUST(blocks[i] == NULL || blocks[i][0] == i + 1);
		front_free(blocks[i]);
		blocks[i] = NULL;
	}
}

static void work(void)
{
	unsigned char *blocks[BLOCKS];
	int i;

	for (i = 0; i < 3; i++) {
		take(blocks);
		give(blocks);
	}
}

static size_t resident(void)
{
	FILE *f = fopen("/proc/self/statm", "r");
	unsigned long pages = 0;

	MUST(f != NULL && fscanf(f, "%*u %lu", &pages) == 1);
	fclose(f);
	return pages * (size_t)sysconf(_SC_PAGESIZE);
}

/* --- threads --- */

static void *work_in_thread(void *arg)
{
	work();
	return arg;
}

static void start(pthread_t *thread, void *(*fn)(void *), size_t stack)
{
	pthread_attr_t attributes;

	MUST(pthread_attr_init(&attributes) == 0);
	if (stack != 0)
		MUST(pthread_attr_setstacksize(&attributes, stack) == 0);
	MUST(pthread_create(thread, &attributes, fn, NULL) == 0);
	pthread_attr_destroy(&attributes);
}

static void run_threads(int rounds, void *(*fn)(void *), size_t stack)
{
	enum { AT_ONCE = 8 };
	pthread_t threads[AT_ONCE];
	int i;

	while (rounds-- > 0) {
		for (i = 0; i < AT_ONCE; i++)
			start(&threads[i], fn, stack);
		for (i = 0; i < AT_ONCE; i++)
			MUST(pthread_join(threads[i], NULL) == 0);
	}
}

static void *work_a_little(void *arg)
{
	void *blocks[50];
	int i;

	for (i = 0; i < 50; i++)
		MUST((blocks[i] = front_malloc(16 + (size_t)i * i)) != NULL);
	for (i = 0; i < 50; i++)
		front_free(blocks[i]);
	return arg;
}

/* Structures of threads that have ended are used again. */
static int many_threads(void)
{
	size_t before;

	run_threads(30, work_a_little, 0);
	front_trim();
	before = resident();
	run_threads(220, work_a_little, 0);
	front_trim();
	MUST(resident() <= before + ((size_t)2 << 20));
	return 0;
}

static int small_stacks(void)
{
	run_threads(4, work_in_thread, (size_t)PTHREAD_STACK_MIN);
	return 0;
}

static atomic_int ended;

static void count_end(void *blocks)
{
	give(blocks);
	atomic_fetch_add(&ended, 1);
}

static void *leave_early(void *arg)
{
	unsigned char *blocks[BLOCKS];

	take(blocks);
	pthread_cleanup_push(count_end, blocks);
	pthread_exit(arg);
	pthread_cleanup_pop(0);
	return NULL;
}

static void *wait_to_be_cancelled(void *arg)
{
	unsigned char *blocks[BLOCKS];

	take(blocks);
	pthread_cleanup_push(count_end, blocks);
	for (;;) {
		work();
		usleep(10);
	}
	pthread_cleanup_pop(0);
	return arg;
}

/* Not while it allocates: that POSIX does not allow. */
static void *compute(void *arg)
{
	unsigned char *blocks[BLOCKS];
	int before;

	take(blocks);
	pthread_cleanup_push(count_end, blocks);
	MUST(pthread_setcanceltype(PTHREAD_CANCEL_ASYNCHRONOUS, &before) == 0);
	for (;;)
		__asm__ volatile("");
	pthread_cleanup_pop(0);
	return arg;
}

static void cancel(void *(*fn)(void *), int times)
{
	pthread_t thread;

	while (times-- > 0) {
		start(&thread, fn, 0);
		usleep(2000);
		MUST(pthread_cancel(thread) == 0);
		MUST(pthread_join(thread, NULL) == 0);
	}
}

static int ends_of_threads(void)
{
	pthread_t thread;
	int i;

	for (i = 0; i < 20; i++) {
		start(&thread, leave_early, 0);
		MUST(pthread_detach(thread) == 0);
	}
	for (i = 0; ended < 20 && i < 30000; i++)
		usleep(1000);
	cancel(wait_to_be_cancelled, 10);
	cancel(compute, 10);
	/* A thread may be cancelled before it has a handler. */
	MUST(ended >= 20 && ended <= 40);
	work();
	return 0;
}

static pthread_key_t keys[2];

static void again(void *value)
{
	unsigned char *blocks[BLOCKS];
	int i = value == NULL ? 0 : *(int *)value;

	take(blocks);
	give(blocks);
	if (i > 0) {
		*(int *)value = i - 1;
		pthread_setspecific(keys[i % 2], value);
	} else {
		front_free(value);
		atomic_fetch_add(&ended, 1);
	}
}

static void *use_keys(void *arg)
{
	int *value = front_malloc(sizeof(*value));

	MUST(value != NULL);
	*value = 3;
	pthread_setspecific(keys[0], value);
	work();
	return arg;
}

static int destructors(void)
{
	MUST(pthread_key_create(&keys[0], again) == 0);
	work(); /* the allocator's own key is between the two */
	MUST(pthread_key_create(&keys[1], again) == 0);
	run_threads(10, use_keys, 0);
	MUST(ended == 80);
	work();
	return 0;
}

/* --- the process --- */

/*
 * Locked pages cannot be given back: what eight threads hold at once stays, and
 * no more than that, however many follow them.
 */
static int locked(void)
{
	size_t most = (size_t)128 << 20;

	if (mlockall(MCL_CURRENT | MCL_FUTURE) != 0)
		return SKIPPED;
	work();
	if (FRONT_THREADS)
		run_threads(10, work_in_thread, (size_t)256 << 10);
	front_trim();
	MUST(resident() < most);
	MUST(front_check() == 0);
	return 0;
}

static int another_user(void)
{
	unsigned char *blocks[BLOCKS];

	if (geteuid() != 0)
		return SKIPPED;
	take(blocks);
	MUST(setresgid(65534, 65534, 65534) == 0);
	MUST(setresuid(65534, 65534, 65534) == 0);
	give(blocks);
	work();
	return 0;
}

/* What opens, reads links or looks at files ends the process. */
static int sandbox(void)
{
	static const int forbidden[] = {
#ifdef SYS_open
		SYS_open,   SYS_readlink,          SYS_stat,
#endif
		SYS_openat, SYS_readlinkat,        SYS_fstatfs, SYS_clone,
		SYS_prctl,  SYS_sched_getaffinity, SYS_sysinfo, SYS_kill};
	enum { N = sizeof(forbidden) / sizeof(forbidden[0]) };
	struct sock_filter filter[2 * N + 2] = {BPF_STMT(
		BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr))};
	struct sock_fprog program = {2 * N + 2, filter};
	struct sock_filter *f = filter + 1;
	int i;

	for (i = 0; i < N; i++) {
		*f++ = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K,
						    (unsigned)forbidden[i], 0,
						    1);
		*f++ = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K,
						    SECCOMP_RET_KILL);
	}
	*f = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 ||
	    prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) != 0)
		return SKIPPED;
	work();
	work();
	front_trim();
	MUST(front_check() == 0);
	return 0;
}

static unsigned char *kept[BLOCKS];

static void at_exit(void)
{
	give(kept);
	work();
}

/* After what was registered with atexit. */
__attribute__((destructor)) static void at_the_end(void)
{
	work();
}

static int exits(void)
{
	take(kept);
	MUST(atexit(at_exit) == 0);
	exit(0);
}

/* --- all --- */

static const struct {
	const char *name;
	int (*run)(void);
	bool threads;
} groups[] = {
	{"many threads", many_threads, true},
	{"small stacks", small_stacks, true},
	{"ends of threads", ends_of_threads, true},
	{"destructors", destructors, true},
	{"locked memory", locked, false},
	{"another user", another_user, false},
	{"sandbox", sandbox, false},
	{"exit", exits, false},
};

int main(void)
{
	int bad = 0;
	int status;
	size_t i;
	pid_t pid;

	front_open();
	for (i = 0; i < sizeof(groups) / sizeof(groups[0]); i++) {
		if (groups[i].threads && !FRONT_THREADS)
			continue;
		fflush(stdout);
		pid = fork();
		if (pid == 0) {
			alarm(100);
			_exit(groups[i].run());
		}
		MUST(pid > 0 && waitpid(pid, &status, 0) == pid);
		printf("%s: %s %#x\n", groups[i].name,
		       status == 0              ? "ok"
		       : status == SKIPPED << 8 ? "skipped"
						: "FAILED",
		       (unsigned)status);
		bad += status != 0 && status != SKIPPED << 8;
	}
	return bad != 0;
}
