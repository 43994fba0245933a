/* SPDX-License-Identifier: MIT */
/*
 * support.c - clocks, tables, resident memory and threads for the workloads.
 *
 * None of it allocates with malloc, but for what pthread_create does inside
 * libc. Files of /proc are read into the stack.
 */
#include "micro.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

void rng_seed(struct rng *rng, uint64_t seed)
{
	rng->state = 88172645463325252u ^ seed * 0x9e3779b97f4a7c15u;
	rng_next(rng);
	rng_next(rng);
}

void fault(const char *what)
{
	fprintf(stderr, "micro: %s\n", what);
	_exit(1);
}

void pages_touch(void *block, size_t from, size_t to)
{
	volatile char *bytes = block;
	size_t i;

	for (i = from; i < to; i += 4096)
		bytes[i] = 1;
	if (to > from)
		bytes[to - 1] = 1;
}

void *table_map(size_t count, size_t size)
{
	void *p = mmap(NULL, count * size, PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (p == MAP_FAILED) {
		perror("micro: mmap");
		exit(1);
	}
	return p;
}

double wall_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}

void bench_start(struct bench *bench)
{
	bench->start_ns = wall_ns();
}

void bench_stop(struct bench *bench)
{
	bench->stop_ns = wall_ns();
}

static size_t read_file(const char *path, char *buffer, size_t size)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t got = fd < 0 ? 0 : read(fd, buffer, size - 1);

	if (fd >= 0)
		close(fd);
	if (got < 0)
		got = 0;
	buffer[got] = '\0';
	return (size_t)got;
}

size_t rss_kib(void)
{
	char text[256];
	const char *second;

	read_file("/proc/self/statm", text, sizeof(text));
	second = strchr(text, ' ');
	if (second == NULL)
		return 0;
	return strtoul(second, NULL, 10) * (size_t)sysconf(_SC_PAGESIZE) / 1024;
}

size_t peak_kib(void)
{
	char text[4096];
	const char *line;

	read_file("/proc/self/status", text, sizeof(text));
	line = strstr(text, "VmHWM:");
	return line == NULL ? 0 : strtoul(line + strlen("VmHWM:"), NULL, 10);
}

void thread_start(pthread_t *thread, void *(*body)(void *), void *arg)
{
	int error = pthread_create(thread, NULL, body, arg);

	if (error != 0) {
		fprintf(stderr, "micro: pthread_create: %s\n", strerror(error));
		exit(1);
	}
}

static void *worker_main(void *arg)
{
	struct worker *worker = arg;

	pthread_barrier_wait(worker->start);
	worker->body(worker);
	return NULL;
}

void team_run(struct bench *bench, unsigned count,
	      void (*body)(struct worker *worker), void *shared)
{
	struct worker *workers = table_map(count, sizeof(*workers));
	pthread_barrier_t start;
	unsigned i;

	pthread_barrier_init(&start, NULL, count + 1);
	for (i = 0; i < count; i++) {
		workers[i] = (struct worker){
			.bench = bench,
			.shared = shared,
			.id = i,
			.count = count,
			.body = body,
			.start = &start,
		};
		rng_seed(&workers[i].rng, i + 1);
		thread_start(&workers[i].thread, worker_main, &workers[i]);
	}
	bench_start(bench);
	pthread_barrier_wait(&start);
	for (i = 0; i < count; i++) {
		pthread_join(workers[i].thread, NULL);
		bench->ops += workers[i].ops;
	}
	bench_stop(bench);
	pthread_barrier_destroy(&start);
	munmap(workers, count * sizeof(*workers));
}
