/* SPDX-License-Identifier: MIT */
/*
 * differential.c - the library against the reference model.
 *
 * Random sequences of calls, each in a forked child with an unused heap. The
 * test passes when library and model agree on every address, header word,
 * errno, content and system call, and when each fault that is planted in the
 * model is found. A failing sequence is reduced and printed as a list of
 * calls. OSMEM_TEST_OPS sets the number of calls, OSMEM_TEST_SEED replays.
 */
#include "replay.h"
#include "witness.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define DEFAULT_OPS 1000000
#define CHILD_SECONDS 180
#define REDUCE_SECONDS 20
#define REDUCE_PLANTED_SECONDS 3
#define BUG_SEQUENCES 200

static struct sequence sequence;
static unsigned char skip[SEQUENCE_STEPS];
static struct replay_report *report;
static int null_fd; /* for reports of the library while reducing */

static unsigned long long number_from(const char *name,
				      unsigned long long fallback)
{
	const char *text = getenv(name);
	unsigned long long value;
	char *end;

	if (text == NULL || *text == '\0')
		return fallback;
	errno = 0;
	value = strtoull(text, &end, 0);
	if (errno != 0 || *end != '\0') {
		witness_say("differential: %s=%s is not a number\n", name,
			    text);
		exit(2);
	}
	return value;
}

/* Runs the sequence without the skipped steps. Whether there is no fault. */
static bool run(enum model_bug bug, bool verbose)
{
	int status;
	pid_t pid;

	memset(report, 0, sizeof(*report));
	pid = fork();
	if (pid == 0) {
		alarm(CHILD_SECONDS);
		if (!verbose && dup2(null_fd, STDERR_FILENO) < 0)
			_exit(2);
		replay_run(&sequence, skip, bug, verbose, report);
	}
	if (pid < 0 || waitpid(pid, &status, 0) != pid) {
		witness_say("differential: cannot run a child\n");
		exit(2);
	}
	if (WIFSIGNALED(status))
		snprintf(report->difference, sizeof(report->difference),
			 "the library ended with signal %d", WTERMSIG(status));
	else if (!report->finished && report->difference[0] == '\0')
		snprintf(report->difference, sizeof(report->difference),
			 "the library ended the process with status %d",
			 WEXITSTATUS(status));
	return report->difference[0] == '\0';
}

/* Delta debugging. */

static unsigned steps_left(void)
{
	unsigned left = 0, i;

	for (i = 0; i < sequence.count; i++)
		left += !skip[i];
	return left;
}

/*
 * Leaves out the next part (of so many steps) from i on; *i moves behind.
 * False when no step was left.
 */
static bool leave_out(unsigned *i, unsigned part)
{
	bool any = false;

	for (; *i < sequence.count && part > 0; (*i)++) {
		any = any || !skip[*i];
		part -= !skip[*i];
		skip[*i] = 1;
	}
	return any;
}

/* Tries to do without each part of that size. How many could go. */
static unsigned reduce_by(unsigned part, enum model_bug bug, time_t end)
{
	static unsigned char before[SEQUENCE_STEPS];
	unsigned gone = 0, i = 0;

	while (i < sequence.count && time(NULL) < end) {
		memcpy(before, skip, sizeof(skip));
		if (!leave_out(&i, part))
			break;
		if (run(bug, false))
			memcpy(skip, before, sizeof(skip));
		else
			gone++;
	}
	return gone;
}

/* Refusals that do not matter only confuse the reader. */
static void reduce_refusals(enum model_bug bug, time_t end)
{
	unsigned refuse, i;

	for (i = 0; i < sequence.count && time(NULL) < end; i++) {
		refuse = sequence.steps[i].refuse;
		if (skip[i] || refuse == 0)
			continue;
		sequence.steps[i].refuse = 0;
		if (run(bug, false))
			sequence.steps[i].refuse = refuse;
	}
}

static void reduce(enum model_bug bug, time_t seconds)
{
	time_t end = time(NULL) + seconds;
	unsigned part, gone;

	sequence.count = report->step + 1;
	part = steps_left() / 2;
	while (part > 0 && time(NULL) < end) {
		gone = reduce_by(part, bug, end);
		if (part == 1 && gone == 0)
			break;
		part = part > 1 ? part / 2 : 1;
	}
	reduce_refusals(bug, end);
}

static uint64_t mix(uint64_t seed, uint64_t number)
{
	return (seed ^ number) * UINT64_C(0xff51afd7ed558ccd) + number;
}

static void generate(uint64_t seed, unsigned long number)
{
	memset(skip, 0, sizeof(skip));
	sequence_generate(&sequence, (unsigned)(number % sequence_profiles()),
			  mix(seed, number));
}

static void print_failure(unsigned long number)
{
	witness_say("differential: sequence %lu (%s): step %u: %s\n", number,
		    sequence_profile_name(&sequence), report->step,
		    report->difference);
	reduce(MODEL_BUG_NONE, REDUCE_SECONDS);
	witness_say("reduced to %u calls:\n", steps_left());
	run(MODEL_BUG_NONE, true);
	witness_say("\n  -> %s\n", report->difference);
}

/* Plants a fault in the model. Whether a sequence shows the difference. */
static bool finds(enum model_bug bug, const char *name, uint64_t seed)
{
	unsigned long calls = 0, number;

	for (number = 0; number < BUG_SEQUENCES; number++) {
		generate(~seed, number);
		if (!run(bug, false)) {
			calls += report->executed;
			reduce(bug, REDUCE_PLANTED_SECONDS);
			witness_say("planted %s: found after %lu calls, "
				    "reduced to %u\n",
				    name, calls, steps_left());
			return true;
		}
		calls += report->executed;
	}
	witness_say("planted %s: NOT found in %lu calls\n", name, calls);
	return false;
}

static unsigned planted_found(uint64_t seed)
{
	return (unsigned)finds(MODEL_BUG_FIRST_FIT, "first fit", seed) +
	       (unsigned)finds(MODEL_BUG_SPLIT, "no split of 40", seed) +
	       (unsigned)finds(MODEL_BUG_FREE_MERGES, "merge in free", seed);
}

int main(void)
{
	struct timespec now;
	unsigned long long ops, seed, done = 0;
	unsigned long number = 0, differences = 0;
	unsigned found;

	if (sbrk(16) == (void *)-1) { /* musl's moves nothing */
		witness_say("differential: skipped: sbrk does not work\n");
		return 77;
	}
	clock_gettime(CLOCK_REALTIME, &now);
	seed = number_from("OSMEM_TEST_SEED",
			   mix((uint64_t)now.tv_sec, (uint64_t)now.tv_nsec) >>
				   32);
	ops = number_from("OSMEM_TEST_OPS", DEFAULT_OPS);
	report = mmap(NULL, sizeof(*report), PROT_READ | PROT_WRITE,
		      MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	null_fd = open("/dev/null", O_WRONLY | O_CLOEXEC);
	if (report == MAP_FAILED || null_fd < 0)
		return 2;
	witness_say("differential: OSMEM_TEST_SEED=%llu OSMEM_TEST_OPS=%llu\n",
		    seed, ops);
	while (differences < 3 &&
	       (done < ops || number < sequence_profiles())) {
		generate(seed, number);
		if (!run(MODEL_BUG_NONE, false)) {
			done += report->executed;
			differences++;
			print_failure(number);
		} else {
			done += report->executed;
		}
		number++;
	}
	found = differences == 0 ? planted_found(seed) : 0;
	witness_say("differential: %llu operations in %lu sequences, "
		    "%u profiles, %lu differences; planted bugs found: "
		    "%u of 3\n",
		    done, number, sequence_profiles(), differences, found);
	return differences == 0 && found == 3 ? 0 : 1;
}
