/* SPDX-License-Identifier: MIT */
/*
 * micro.c - one workload on whatever malloc the process has.
 *
 * micro [-s FACTOR] NAME ARGS runs a workload and prints one line: operations,
 * nanoseconds each, cpu seconds and resident memory. micro whose prints the
 * file that malloc comes from, so that a run can prove what it measures: a
 * preload that did not take effect looks like libc. Nothing here calls malloc
 * before the workload does.
 */
#define _GNU_SOURCE
#include "micro.h"

#include <dlfcn.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static const struct workload *const groups[] = {
	single_workloads,  growth_workloads, thread_workloads,
	sharing_workloads, memory_workloads,
};

#define GROUPS (sizeof(groups) / sizeof(groups[0]))

static int usage(void)
{
	const struct workload *w;
	size_t i;

	fputs("usage: micro [-s FACTOR] NAME ARGS\n"
	      "       micro whose\n"
	      "Numbers take k and m (1024, 1024^2), K and M (1000, 10^6).\n"
	      "FACTOR multiplies the last argument.\n\n",
	      stderr);
	for (i = 0; i < GROUPS; i++) {
		for (w = groups[i]; w->name != NULL; w++)
			fprintf(stderr, "  %-12s %s\n", w->name, w->args);
	}
	return 2;
}

static int whose(void)
{
	void *(*function)(size_t) = malloc;
	void *address;
	Dl_info info;

	memcpy(&address, &function, sizeof(address));
	if (dladdr(address, &info) == 0 || info.dli_fname == NULL)
		return 1;
	puts(info.dli_fname);
	return 0;
}

static const struct workload *find(const char *name)
{
	const struct workload *w;
	size_t i;

	for (i = 0; i < GROUPS; i++) {
		for (w = groups[i]; w->name != NULL; w++) {
			if (strcmp(w->name, name) == 0)
				return w;
		}
	}
	return NULL;
}

/* A number with a suffix; 0, which no workload takes, when it is none. */
static size_t number(const char *text)
{
	char *end;
	size_t value = strtoul(text, &end, 10);

	switch (*end) {
	case '\0':
		return value;
	case 'k':
		return value << 10;
	case 'm':
		return value << 20;
	case 'K':
		return value * 1000;
	case 'M':
		return value * 1000000;
	default:
		return 0;
	}
}

static int read_arguments(struct bench *bench, int count, char **text,
			  double factor)
{
	size_t *last = &bench->arg[count - 1];
	int i;

	for (i = 0; i < count; i++) {
		bench->arg[i] = number(text[i]);
		if (bench->arg[i] == 0)
			return 0;
	}
	*last = (size_t)((double)*last * factor);
	if (*last == 0)
		*last = 1;
	return 1;
}

static double cpu_seconds(void)
{
	struct timespec t;

	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static void print(const struct bench *bench)
{
	size_t rss = rss_kib(), peak = peak_kib();
	double cpu = cpu_seconds();
	double ns = bench->stop_ns - bench->start_ns;

	printf("ops=%llu ns=%.2f cpu=%.4f peak_kib=%zu rss_kib=%zu\n",
	       (unsigned long long)bench->ops,
	       bench->ops == 0 ? 0 : ns / (double)bench->ops, cpu, peak, rss);
}

int main(int argc, char **argv)
{
	struct bench bench = {0};
	const struct workload *w;
	double factor = 1;
	int i = 1;

	if (argc > 3 && strcmp(argv[1], "-s") == 0) {
		factor = strtod(argv[2], NULL);
		i = 3;
	}
	if (i >= argc || factor <= 0)
		return usage();
	if (strcmp(argv[i], "whose") == 0)
		return whose();
	w = find(argv[i++]);
	if (w == NULL || argc - i != w->count)
		return usage();
	if (!read_arguments(&bench, w->count, argv + i, factor))
		return usage();
	w->run(&bench);
	print(&bench);
	return 0;
}
