/* SPDX-License-Identifier: MIT */
/*
 * measure.c - runs a program and writes down what it cost.
 *
 * measure -o FILE [-p PRELOAD] [-t SECONDS] PROGRAM ARGS: FILE gets one line,
 * user and system cpu seconds, peak RSS in KiB, wall seconds and the status (an
 * exit status, 128 + a signal, or 124 when the time was up). It stands between
 * the runner and the program because the peak RSS that the kernel counts for a
 * process starts at that of the process it was made from: this one is small.
 */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static volatile sig_atomic_t late;
static volatile pid_t child;

static void stop(int signal)
{
	if (signal == SIGALRM)
		late = 1;
	if (child > 0)
		kill(-child, SIGKILL);
}

static int fail(const char *what)
{
	fprintf(stderr, "measure: %s: %s\n", what, strerror(errno));
	return 125;
}

static double seconds(struct timeval t)
{
	return (double)t.tv_sec + (double)t.tv_usec / 1e6;
}

static double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

__attribute__((noreturn)) static void become(char **argv, const char *preload)
{
	setpgid(0, 0);
	if (preload == NULL || *preload == '\0')
		unsetenv("LD_PRELOAD");
	else
		setenv("LD_PRELOAD", preload, 1);
	execvp(argv[0], argv);
	fail(argv[0]);
	_exit(127);
}

static int wait_for(pid_t pid, struct rusage *usage)
{
	int status;

	while (wait4(pid, &status, 0, usage) < 0) {
		if (errno != EINTR)
			return fail("wait4");
	}
	if (late)
		return 124;
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

static int report(const char *path, const struct rusage *usage, double wall,
		  int status)
{
	FILE *file = fopen(path, "we");

	if (file == NULL)
		return fail(path);
	fprintf(file, "%.6f %.6f %ld %.6f %d\n", seconds(usage->ru_utime),
		seconds(usage->ru_stime), usage->ru_maxrss, wall, status);
	return fclose(file) == 0 ? status : fail(path);
}

int main(int argc, char **argv)
{
	const char *out = NULL, *preload = NULL;
	struct sigaction action = {.sa_handler = stop};
	unsigned limit = 0;
	struct rusage usage;
	double start;
	int option;

	while ((option = getopt(argc, argv, "+o:p:t:")) != -1) {
		if (option == 'o')
			out = optarg;
		else if (option == 'p')
			preload = optarg;
		else if (option == 't')
			limit = (unsigned)strtoul(optarg, NULL, 10);
		else
			return 125;
	}
	if (out == NULL || optind == argc) {
		fputs("usage: measure -o FILE [-p PRELOAD] [-t SECONDS] "
		      "PROGRAM ARGS\n",
		      stderr);
		return 125;
	}
	sigaction(SIGALRM, &action, NULL);
	sigaction(SIGINT, &action, NULL);
	sigaction(SIGTERM, &action, NULL);
	start = now();
	child = fork();
	if (child < 0)
		return fail("fork");
	if (child == 0)
		become(argv + optind, preload);
	setpgid(child, child);
	alarm(limit);
	option = wait_for(child, &usage);
	return report(out, &usage, now() - start, option);
}
