#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""coverage.py - which lines of lib/ the tests have run.

	coverage.py GCOV BUILDDIR SRCDIR [LEAST]

Adds up what gcov says of all objects below BUILDDIR, as the library and the
replacement are compiled from the same files, and so are inline functions from
many. Prints a table and the lines that were never run. Exit status 1 when
less than LEAST percent of all lines were, 2 when there is nothing to count.
"""

import json
import os
import subprocess
import sys


def count(gcov, build, source):
    """{file: {line: times}} for the files of lib/."""
    files = {}
    data = [os.path.join(where, name) for where, _, names in os.walk(build)
            for name in names if name.endswith('.gcno')]
    if not data:
        return files
    # Counts are found by the name of the notes; without any, all are 0.
    done = subprocess.run([gcov, '--json-format', '--stdout'] + data,
                          cwd=build, stdout=subprocess.PIPE,
                          stderr=subprocess.DEVNULL)
    if done.returncode != 0:
        sys.exit('coverage.py: gcov fails: are there counts of an older '
                 'build? Remove all *.gcda')
    for text in done.stdout.decode().splitlines():
        report = json.loads(text)
        for entry in report['files']:
            path = os.path.realpath(os.path.join(
                report['current_working_directory'], entry['file']))
            name = os.path.relpath(path, source)
            if not name.startswith('lib' + os.sep):
                continue
            lines = files.setdefault(name, {})
            for line in entry['lines']:
                number = line['line_number']
                lines[number] = lines.get(number, 0) + line['count']
    return files


def ranges(numbers):
    """[1, 2, 3, 7] as '1-3 7'."""
    spans = []
    for n in sorted(numbers):
        if spans and spans[-1][1] == n - 1:
            spans[-1][1] = n
        else:
            spans.append([n, n])
    return ' '.join(str(a) if a == b else f'{a}-{b}' for a, b in spans)


def main():
    gcov, build, source = sys.argv[1:4]
    least = float(sys.argv[4]) if len(sys.argv) > 4 else 0
    files = count(gcov, os.path.realpath(build), os.path.realpath(source))
    total = run = 0
    print(f"{'file':24} {'lines':>6} {'run':>6}   {'%':>5}  never run")
    for name, lines in sorted(files.items()):
        never = [n for n, times in lines.items() if times == 0]
        total += len(lines)
        run += len(lines) - len(never)
        part = 100 * (len(lines) - len(never)) / len(lines)
        print(f'{name:24} {len(lines):6} {len(lines) - len(never):6}   '
              f'{part:5.1f}  {ranges(never)}')
    if total == 0:
        sys.exit('coverage.py: nothing was counted: '
                 'configure with --enable-coverage and run the tests')
    part = 100 * run / total
    print(f"{'all':24} {total:6} {run:6}   {part:5.1f}")
    if part < least:
        sys.exit(f'coverage.py: {part:.1f}% of the lines of lib/ were run, '
                 f'which is less than {least:g}%')


if __name__ == '__main__':
    main()
