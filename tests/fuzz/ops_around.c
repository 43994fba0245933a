/* SPDX-License-Identifier: MIT */
/*
 * ops_around.c - what goes on around the calls: other threads and processes,
 * options that change, and what is printed.
 */
#include <config.h>

#include "isolated.h"
#include "ops.h"

#include <errno.h>
#include <fcntl.h>
#include <osmem.h>
#include <pthread.h>
#include <semaphore.h>
#include <sys/wait.h>

enum {
	OPS_WORKERS = 3,
	OPS_WORK = 16,        /* calls at a time, at most */
	OPS_FORK_SECONDS = 30 /* less than the parent has */
};

/* --- threads --- */

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

/* Frees many by another thread, which ends. */
void ops_do_free_elsewhere(struct fuzz_input *in)
{
	unsigned char bytes[3];
	pthread_t thread;

	for (unsigned int i = 0; i < 3; i++)
		bytes[i] = (unsigned char)fuzz_byte(in);
	if (!OSMEM_CONF_THREADS)
		return;
	if (pthread_create(&thread, NULL, ops_thread, bytes) == 0)
		pthread_join(thread, NULL);
	else
		FUZZ_MUST(ops_is_short(), "no thread");
}

/* Threads that stay. They work one at a time, while the first one waits. */
static struct ops_worker {
	pthread_t thread;
	sem_t go, done;
	struct fuzz_input *in; /* NULL: it shall end */
	unsigned int calls;
	bool exists;
} ops_workers[OPS_WORKERS];

static bool ops_is_working;

static void ops_wait(sem_t *s)
{
	while (sem_wait(s) != 0)
		FUZZ_MUST(errno == EINTR, "no semaphore");
}

static void *ops_worker(void *arg)
{
	struct ops_worker *w = arg;

	for (;;) {
		ops_wait(&w->go);
		if (w->in == NULL)
			return NULL;
		while (w->calls-- > 0 && w->in->left > 0)
			ops_step(w->in);
		sem_post(&w->done);
	}
}

static void ops_end_worker(struct ops_worker *w)
{
	if (!w->exists)
		return;
	w->in = NULL;
	sem_post(&w->go);
	pthread_join(w->thread, NULL);
	w->exists = false;
}

static void ops_start_worker(struct ops_worker *w)
{
	if (w->exists)
		return;
	sem_init(&w->go, 0, 0);
	sem_init(&w->done, 0, 0);
	w->exists = pthread_create(&w->thread, NULL, ops_worker, w) == 0;
	FUZZ_MUST(w->exists || ops_is_short(), "no thread");
}

void ops_end_workers(void)
{
	for (unsigned int i = 0; i < OPS_WORKERS; i++)
		ops_end_worker(&ops_workers[i]);
}

/* The next calls are a worker's, or it ends. */
void ops_do_work(struct fuzz_input *in)
{
	unsigned int which = fuzz_byte(in);
	struct ops_worker *w = &ops_workers[which % OPS_WORKERS];

	if (!OSMEM_CONF_THREADS || ops_is_working)
		return;
	if (which >= 0xc0) {
		ops_end_worker(w);
		return;
	}
	ops_start_worker(w);
	if (!w->exists)
		return;
	w->in = in;
	w->calls = which / OPS_WORKERS % OPS_WORK + 1;
	ops_is_working = true;
	sem_post(&w->go);
	ops_wait(&w->done);
	ops_is_working = false;
}

/* --- processes --- */

/* All that there is is the child's, too, and there only one thread. */
static _Noreturn void ops_live_on(unsigned int start, unsigned int step)
{
	struct ops_block *b = &ops_live[start % OPS_LIVE];

	alarm(OPS_FORK_SECONDS);
	ops_check();
	ops_free_many(start, step);
	ops_release(b, false);
	ops_take(b, os_malloc(step * 9), step * 9, OSMEM_CONF_ALIGNMENT);
	ops_check();
	ops_free_many(0, 0);
	ops_check();
	isolated_leave();
}

void ops_do_fork(struct fuzz_input *in)
{
	unsigned int start = fuzz_byte(in), step = fuzz_byte(in);
	int status = 0;
	pid_t pid = fork();

	FUZZ_MUST(pid >= 0 || ops_is_short(), "no fork");
	if (pid < 0)
		return;
	if (pid == 0)
		ops_live_on(start, step);
	while (waitpid(pid, &status, 0) < 0)
		FUZZ_MUST(errno == EINTR, "no child");
	FUZZ_MUST(status == 0, "the fork's status is %#x", (unsigned)status);
}

/* --- options --- */

/* What must be set before there is a block is refused then. */
static void ops_set_late(unsigned int value)
{
	struct os_stats s = {.struct_size = sizeof(s)};

	FUZZ_MUST(os_stats(&s) == 0, "os_stats()");
	if (s.slab_used_blocks + s.heap_used_blocks + s.mapped_blocks == 0)
		return;
	errno = 0;
	FUZZ_MUST(os_mallopt(value & 1 ? OS_M_MODE : OS_M_HARDEN,
			     (int)(value >> 1) % 3) == 0 &&
			  errno == EINVAL,
		  "a mode that changes");
}

void ops_do_option(struct fuzz_input *in)
{
	static const int plain[] = {OS_M_HOT_AFTER, OS_M_GROW_AFTER,
				    OS_M_CACHE_AFTER};
	unsigned int which = fuzz_byte(in) % 8, value = fuzz_byte(in);

	if (which < 3) {
		ops_set(plain[which], (int)(value % 16) + 1);
	} else if (which == 3) {
		ops_set(OS_M_CHECK, ops_is_crowded() ? 0 : (int)(value % 20));
	} else if (which == 4) {
		ops_set(OS_M_SITES, (int)(value % 2));
	} else if (which == 5) {
		ops_set(OS_M_FOREIGN, (int)(value % 3));
		ops_passes = value % 3 != OS_FOREIGN_ABORT;
	} else if (which == 6) {
		ops_set(OS_M_BREAK, (int)(value % 3));
	} else {
		ops_set_late(value);
	}
}

/* --- printing --- */

void ops_do_print(struct fuzz_input *in)
{
	unsigned int what = fuzz_byte(in);
	int fd = what & 8 ? -1 : open("/dev/null", O_WRONLY | O_CLOEXEC);
	int result;

	if (what % 4 == 3)
		result = os_info_print(fd);
	else
		result = os_stats_print(fd, (int)(what % 4));
	FUZZ_MUST(result == (fd < 0 || what % 4 == 2 ? -1 : 0), "%d", result);
	if (fd >= 0)
		close(fd);
}
