/* SPDX-License-Identifier: MIT */
/*
 * isolated.c - inputs in children of their own.
 *
 * A fork costs what the process has: libFuzzer gets larger with what it finds.
 * So a keeper is forked off first, while there is little, and forks for each
 * input. The input, and what the child has counted, are in shared memory.
 */
#include <config.h>

#include "isolated.h"

#include "fuzz.h"

#include <errno.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>

enum {
	ISOLATED_SECONDS = 60,    /* the machine may have others to serve */
	ISOLATED_INPUT = 1 << 20, /* bytes of an input, at most */
	ISOLATED_REPORT = 512,    /* bytes of a report that are looked at */
};

/* The compiler's counters; not there without -fsanitize=fuzzer. */
extern uint8_t __start___sancov_cntrs[] __attribute__((weak));
extern uint8_t __stop___sancov_cntrs[] __attribute__((weak));

static uint8_t *isolated_counters; /* what the child has counted */
static uint8_t *isolated_input;
static int isolated_ask[2], isolated_answer[2]; /* to and from the keeper */

/* Set while the child does what must be reported. */
static const char *isolated_call;
static void (*isolated_last)(void);
static int isolated_text = -1;
static int isolated_stderr = -1;

static size_t isolated_counted(void)
{
	return (size_t)(__stop___sancov_cntrs - __start___sancov_cntrs);
}

static uint8_t *isolated_share(size_t size)
{
	void *p = mmap(NULL, size, PROT_READ | PROT_WRITE,
		       MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	FUZZ_MUST(p != MAP_FAILED, "no shared memory");
	return p;
}

_Noreturn void isolated_leave(void)
{
	for (size_t i = 0; i < isolated_counted(); i++)
		isolated_counters[i] |= __start___sancov_cntrs[i];
	_exit(0);
}

/* Back to the stderr that people read. */
static void isolated_unmute(void)
{
	dup2(isolated_stderr, STDERR_FILENO);
	isolated_call = NULL;
}

static void isolated_check_report(void)
{
	char text[ISOLATED_REPORT] = "";
	char want[64];

	snprintf(want, sizeof(want), "libosmem: %s", isolated_call);
	isolated_unmute();
	FUZZ_MUST(pread(isolated_text, text, sizeof(text) - 1, 0) > 0,
		  "no report at all");
	FUZZ_MUST(strncmp(text, want, strlen(want)) == 0, "no report of %s: %s",
		  want, text);
}

/* A report lets go of all locks, so that a handler may do anything. */
static void isolated_on_abort(int signal)
{
	(void)signal;
	if (isolated_call == NULL)
		return;
	isolated_check_report();
	if (isolated_last != NULL)
		isolated_last();
	isolated_leave();
}

void isolated_misuse(int (*fn)(void *p), void *p, const char *call,
		     void (*last)(void))
{
	int refused;

	isolated_text = memfd_create("report", MFD_CLOEXEC);
	isolated_stderr = dup(STDERR_FILENO);
	FUZZ_MUST(isolated_text >= 0 && isolated_stderr >= 0, "no file");
	isolated_last = last;
	dup2(isolated_text, STDERR_FILENO);
	isolated_call = call;
	refused = fn(p);
	isolated_unmute();
	close(isolated_text);
	close(isolated_stderr);
	FUZZ_MUST(refused, "%s(%p) came back", call, p);
}

/* The fuzzer's own handlers must not take the child's signals for its own. */
static void isolated_begin(void)
{
	struct sigaction action = {.sa_handler = isolated_on_abort};
	struct rlimit none = {0, 0};

	setrlimit(RLIMIT_CORE, &none);
	sigaction(SIGABRT, &action, NULL);
	signal(SIGALRM, SIG_DFL);
	alarm(ISOLATED_SECONDS);
}

/* The status of a child that has run the input of so many bytes. */
static int isolated_fork(void (*fn)(const uint8_t *data, size_t size),
			 size_t size)
{
	int status = 0;
	pid_t pid = fork();

	FUZZ_MUST(pid >= 0, "no fork");
	if (pid == 0) {
		isolated_begin();
		fn(isolated_input, size);
		isolated_leave();
	}
	while (waitpid(pid, &status, 0) < 0)
		FUZZ_MUST(errno == EINTR, "no child");
	return status;
}

/* Until nobody is there to ask. */
static _Noreturn void isolated_keep(void (*fn)(const uint8_t *, size_t))
{
	size_t size;
	int status;

	close(isolated_ask[1]);
	close(isolated_answer[0]);
	while (read(isolated_ask[0], &size, sizeof(size)) == sizeof(size)) {
		status = isolated_fork(fn, size);
		if (write(isolated_answer[1], &status, sizeof(status)) < 0)
			break;
	}
	_exit(0);
}

static void isolated_prepare(void (*fn)(const uint8_t *, size_t))
{
	pid_t pid;

	isolated_input = isolated_share(ISOLATED_INPUT);
	isolated_counters = isolated_share(isolated_counted() + 1);
	FUZZ_MUST(pipe(isolated_ask) == 0 && pipe(isolated_answer) == 0,
		  "no pipe");
	pid = fork();
	FUZZ_MUST(pid >= 0, "no fork");
	if (pid == 0)
		isolated_keep(fn);
	close(isolated_ask[0]);
	close(isolated_answer[1]);
}

void isolated_run(void (*fn)(const uint8_t *data, size_t size),
		  const uint8_t *data, size_t size)
{
	int status = -1;

	if (isolated_input == NULL)
		isolated_prepare(fn);
	FUZZ_MUST(size <= ISOLATED_INPUT, "an input of %zu bytes", size);
	memcpy(isolated_input, data, size);
	memset(isolated_counters, 0, isolated_counted());
	FUZZ_MUST(write(isolated_ask[1], &size, sizeof(size)) > 0, "no keeper");
	while (read(isolated_answer[0], &status, sizeof(status)) < 0)
		FUZZ_MUST(errno == EINTR, "no answer");
	FUZZ_MUST(status == 0, "the child's status is %#x", (unsigned)status);
	for (size_t i = 0; i < isolated_counted(); i++)
		__start___sancov_cntrs[i] |= isolated_counters[i];
}
