# shellcheck shell=sh
# SPDX-License-Identifier: MIT
#
# lib.sh - what the shell tests share. They source it first:
#
#	. "${top_srcdir:-..}/tests/lib.sh"
#
# It sets the environment that `make check` sets, where that is missing, makes
# a scratch directory $scratch that is gone when the test ends, and counts. A
# test ends with `finish`. A check that cannot be made is no check that passed:
# skip_one says why, and skip_all ends the test so that it counts as skipped.

set -u

: "${top_srcdir:=$(cd "$(dirname "$0")/.." && pwd)}"
: "${top_builddir:=$top_srcdir}"
: "${CC:=cc}"
: "${NM:=nm}"
export top_srcdir top_builddir CC NM

test_name=$(basename "$0")
test_passed=0
test_failed=0
test_skipped=0

scratch=$(mktemp -d "${TMPDIR:-/tmp}/osmem-test.XXXXXX") || exit 99
trap 'rm -rf "$scratch"' EXIT
trap 'exit 129' HUP
trap 'exit 130' INT
trap 'exit 143' TERM

# ok TEXT: one check held.
ok()
{
	test_passed=$((test_passed + 1))
	printf 'ok: %s\n' "$*"
}

# fail TEXT: one check did not; the test goes on.
fail()
{
	test_failed=$((test_failed + 1))
	printf 'FAIL: %s\n' "$*" >&2
}

# skip_one REASON, skip_all REASON
skip_one()
{
	test_skipped=$((test_skipped + 1))
	printf 'skipped: %s\n' "$*"
}

skip_all()
{
	printf 'SKIP: %s: %s\n' "$test_name" "$*"
	exit 77
}

# Nothing can be said without this.
die()
{
	printf 'ERROR: %s: %s\n' "$test_name" "$*" >&2
	exit 99
}

have()
{
	command -v "$1" >/dev/null 2>&1
}

# expect TEXT COMMAND...: ok when the command succeeds, its output when not.
expect()
{
	expect_text=$1
	shift
	if "$@" >"$scratch/expect.out" 2>&1; then
		ok "$expect_text"
	else
		fail "$expect_text"
		sed 's/^/    /' "$scratch/expect.out" >&2
	fi
}

# expect_failure TEXT COMMAND...: for planted faults, which must be found. The
# command is a check of the test's own, run on a copy with a fault in it.
expect_failure()
{
	expect_text=$1
	shift
	if "$@" >"$scratch/expect.out" 2>&1; then
		fail "not found: $expect_text"
	else
		ok "found: $expect_text"
	fi
}

# same FILE1 FILE2: shows in what they differ.
same()
{
	diff -u "$1" "$2"
}

# built_library NAME: the path of a library in the build tree, or nothing.
built_library()
{
	for built_path in "$top_builddir/.libs/$1" "$top_builddir/$1"; do
		[ -e "$built_path" ] && echo "$built_path" && return
	done
}

finish()
{
	printf '%s: %d passed, %d failed, %d skipped\n' "$test_name" \
		"$test_passed" "$test_failed" "$test_skipped"
	[ "$((test_passed + test_failed))" -gt 0 ] || exit 77
	[ "$test_failed" -eq 0 ] || exit 1
	exit 0
}

# has_threads: whether libosmem has locks; the replacement always does.
has_threads()
{
	grep -q 'define OSMEM_CONF_THREADS 1' "$top_builddir/config.h"
}
