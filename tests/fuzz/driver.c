/* SPDX-License-Identifier: MIT */
/*
 * driver.c - runs a fuzzing target without a fuzzer: each file that is named,
 * or standard input. For `make check`, for findings, and for AFL++.
 */
#include "fuzz.h"

#include <fcntl.h>

enum { DRIVER_MOST = 1 << 20 };

/* A copy of just that size, so that a sanitizer sees what reads beyond. */
static void driver_run(const uint8_t *bytes, size_t size)
{
	uint8_t *copy = malloc(size > 0 ? size : 1);

	if (copy == NULL)
		abort();
	memcpy(copy, bytes, size);
	LLVMFuzzerTestOneInput(copy, size);
	free(copy);
}

static int driver_read(int fd, const char *name)
{
	static uint8_t bytes[DRIVER_MOST];
	size_t size = 0;
	ssize_t n;

	while ((n = read(fd, bytes + size, sizeof(bytes) - size)) > 0)
		size += (size_t)n;
	if (n < 0) {
		perror(name);
		return 2;
	}
	driver_run(bytes, size);
	return 0;
}

static int driver_file(const char *name)
{
	int fd = open(name, O_RDONLY | O_CLOEXEC);
	int status;

	if (fd < 0) {
		perror(name);
		return 2;
	}
	status = driver_read(fd, name);
	close(fd);
	return status;
}

int main(int argc, char **argv)
{
	int status = 0;

	if (argc < 2)
		return driver_read(STDIN_FILENO, "standard input");
	for (int i = 1; i < argc && status == 0; i++)
		status = driver_file(argv[i]);
	if (status == 0)
		printf("%d inputs, no finding\n", argc - 1);
	return status;
}
