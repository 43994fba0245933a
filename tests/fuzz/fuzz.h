/* SPDX-License-Identifier: MIT */
/*
 * fuzz.h - what the fuzzing targets share: reading bytes, and giving up.
 *
 * A target is a file with LLVMFuzzerTestOneInput(). It links with libFuzzer,
 * or with driver.c, which runs files. A finding ends the process by abort().
 */
#ifndef FUZZ_H
#define FUZZ_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* The bytes that are left; behind the end there are zeros. */
struct fuzz_input {
	const uint8_t *at;
	size_t left;
};

static inline unsigned int fuzz_byte(struct fuzz_input *in)
{
	if (in->left == 0)
		return 0;
	in->left--;
	return *in->at++;
}

static inline uint64_t fuzz_bytes(struct fuzz_input *in, unsigned int count)
{
	uint64_t value = 0;

	while (count-- > 0)
		value = value << 8 | fuzz_byte(in);
	return value;
}

#define FUZZ_MUST(x, ...) \
	do { \
		if (!(x)) { \
			dprintf(STDERR_FILENO, "%s:%d: failed: %s: ", \
				__FILE__, __LINE__, #x); \
			dprintf(STDERR_FILENO, __VA_ARGS__); \
			dprintf(STDERR_FILENO, "\n"); \
			abort(); \
		} \
	} while (0)

/* FUZZ_PLANT=1: each target makes a fault of its own, and must find it. */
static inline bool fuzz_is_planted(void)
{
	return getenv("FUZZ_PLANT") != NULL;
}

#endif
