/* SPDX-License-Identifier: MIT */
/*
 * dlopen_user.c - loads libosmem.so, uses it and closes it, many times.
 *
 * Not linked with it: argv[1] is its path, argv[2] how many times. Prints what
 * went wrong, and how much address space each time cost. Fork handlers that
 * outlive the library would be called by the forks in here.
 */
#include <dlfcn.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

struct functions {
	void *(*malloc)(size_t size);
	void *(*calloc)(size_t n, size_t size);
	void *(*realloc)(void *p, size_t size);
	void (*free)(void *p);
	int (*check)(void);
};

static void fail(const char *what)
{
	fprintf(stderr, "dlopen_user: %s\n", what);
	exit(1);
}

/* A function pointer out of an object pointer, as POSIX wants it. */
static void look_up(void *library, const char *name, void *function)
{
	void *symbol = dlsym(library, name);

	if (symbol == NULL)
		fail(name);
	memcpy(function, &symbol, sizeof(symbol));
}

static void use(const struct functions *os)
{
	char *p = os->malloc(1000);
	char *q = os->calloc(100, 100);
	char *large = os->malloc(300000);

	if (p == NULL || q == NULL || large == NULL)
		fail("no memory");
	memset(p, 'p', 1000);
	memset(large, 'l', 300000);
	p = os->realloc(p, 5000);
	if (p == NULL || p[0] != 'p' || p[999] != 'p' || q[9999] != 0)
		fail("damage");
	os->free(large);
	os->free(q);
	os->free(p);
	if (os->check() != 0)
		fail("heap check");
}

/* The child allocates, with the library or, afterwards, without. */
static void fork_and(const struct functions *os)
{
	pid_t pid = fork();
	int status;

	if (pid == 0) {
		if (os != NULL)
			use(os);
		free(malloc(100000));
		_exit(0);
	}
	if (pid < 0 || waitpid(pid, &status, 0) != pid || status != 0)
		fail("fork");
}

static void load_and_close(const char *path)
{
	void *library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
	struct functions os;

	if (library == NULL)
		fail(dlerror());
	look_up(library, "os_malloc", &os.malloc);
	look_up(library, "os_calloc", &os.calloc);
	look_up(library, "os_realloc", &os.realloc);
	look_up(library, "os_free", &os.free);
	look_up(library, "os_heap_check", &os.check);
	use(&os);
	fork_and(&os);
	if (dlclose(library) != 0)
		fail(dlerror());
	fork_and(NULL);
}

/* In MiB. */
static long address_space(void)
{
	FILE *file = fopen("/proc/self/statm", "r");
	long pages = 0;

	if (file == NULL || fscanf(file, "%ld", &pages) != 1)
		fail("/proc/self/statm");
	fclose(file);
	return pages * (sysconf(_SC_PAGESIZE) / 1024) / 1024;
}

int main(int argc, char **argv)
{
	char *ours = malloc(1000);
	long before;
	int times;
	int i;

	if (argc != 3 || ours == NULL)
		fail("usage: dlopen_user LIBRARY TIMES");
	times = atoi(argv[2]);
	memset(ours, 'o', 1000);
	before = address_space();
	for (i = 0; i < times; i++)
		load_and_close(argv[1]);
	if (ours[0] != 'o' || ours[999] != 'o')
		fail("somebody else's memory was damaged");
	free(ours);
	printf("times: %d\nMiB: %ld\n", times, address_space() - before);
	return 0;
}
