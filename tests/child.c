/* SPDX-License-Identifier: MIT */
/*
 * child.c - children with a captured stderr.
 *
 * Nothing here uses libc's malloc: it would move the break between two steps
 * of a test that looks at it.
 */
#include <config.h>

#include "child.h"

#include "must.h"

#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>

enum { CHILD_SECONDS = 180 };

extern char **environ;

static void child_begin(int to)
{
	struct rlimit none = {0, 0};

	setrlimit(RLIMIT_CORE, &none);
	/* Check has a handler, which would kill the test. */
	signal(SIGALRM, SIG_DFL);
	alarm(CHILD_SECONDS);
	MUST(dup2(to, STDERR_FILENO) == STDERR_FILENO);
}

bool child_is_emulated(void)
{
	return getenv(CHILD_EMULATOR) != NULL;
}

/* What an emulator adds about the signal that ended the program. */
static void child_forget_emulator(char *text)
{
	char *said = strstr(text, "qemu: uncaught target signal");

	if (child_is_emulated() && said != NULL)
		*said = '\0';
}

/* Reads until the last writer is gone; what is too much is dropped. */
static void child_end(struct child *child, int from, pid_t pid)
{
	char chunk[512];
	size_t used = 0;
	ssize_t n;

	while ((n = read(from, chunk, sizeof(chunk))) != 0) {
		size_t room = sizeof(child->text) - 1 - used;

		if (n < 0) {
			MUST(errno == EINTR);
			continue;
		}
		if ((size_t)n < room)
			room = (size_t)n;
		memcpy(child->text + used, chunk, room);
		used += room;
	}
	child->text[used] = '\0';
	child_forget_emulator(child->text);
	close(from);
	MUST(waitpid(pid, &child->status, 0) == pid);
}

void child_run(struct child *child, void (*fn)(void *arg), void *arg)
{
	int ends[2];
	pid_t pid;

	MUST(pipe(ends) == 0);
	pid = fork();
	MUST(pid >= 0);
	if (pid == 0) {
		close(ends[0]);
		child_begin(ends[1]);
		close(ends[1]);
		fn(arg);
		_exit(0);
	}
	close(ends[1]);
	child_end(child, ends[0], pid);
}

static void child_become(const char *argument, const char *environment)
{
	static char *variables[1000];
	static char self[4096];
	char *arguments[] = {self, (char *)argument, NULL};
	char *emulated[] = {getenv(CHILD_EMULATOR), self,
			    (char *)argument, NULL};
	size_t i;

	MUST(readlink("/proc/self/exe", self, sizeof(self) - 1) > 0);

	/* The first of a name is the one that counts. */
	variables[0] = (char *)environment;
	for (i = 0; i < 998 && environ[i] != NULL; i++)
		variables[i + (environment != NULL)] = environ[i];
	/* The kernel knows nothing of an emulator that we run under. */
	if (emulated[0] != NULL)
		execve(emulated[0], emulated, variables);
	else
		execve(self, arguments, variables);
	MUST(!"execve");
}

struct become {
	const char *argument;
	const char *environment;
	void (*prepare)(void);
};

static void become(void *arg)
{
	const struct become *b = arg;

	if (b->prepare != NULL)
		b->prepare();
	child_become(b->argument, b->environment);
}

void child_exec(struct child *child, const char *argument,
		const char *environment, void (*prepare)(void))
{
	struct become b = { argument, environment, prepare };

	child_run(child, become, &b);
}

bool child_succeeded(const struct child *child)
{
	return WIFEXITED(child->status) && WEXITSTATUS(child->status) == 0;
}

bool child_was_killed_by(const struct child *child, int signal)
{
	return WIFSIGNALED(child->status) && WTERMSIG(child->status) == signal;
}

void child_show(const struct child *child)
{
	if (WIFSIGNALED(child->status))
		dprintf(STDERR_FILENO, "child: signal %d\n",
			WTERMSIG(child->status));
	else
		dprintf(STDERR_FILENO, "child: exit %d\n",
			WEXITSTATUS(child->status));
	dprintf(STDERR_FILENO, "%s", child->text);
}

bool child_is_sanitized(void)
{
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
	return true;
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
	return true;
#endif
#endif
	return false;
}
