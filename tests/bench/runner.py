# SPDX-License-Identifier: MIT
"""runner.py - builds the programs and runs one line under one allocator."""

import hashlib
import os
import re
import shlex
import subprocess

MICRO_SOURCES = ("micro.c", "support.c", "single.c", "growth.c", "threads.c",
	"sharing.c", "memory.c")
# A compiler that knows malloc removes pairs of it.
CFLAGS = ["-std=gnu11", "-O2", "-fno-builtin-malloc", "-fno-builtin-calloc",
	"-fno-builtin-realloc", "-fno-builtin-free", "-pthread"]
LIMIT = 60  # seconds that a run may take


class Runner:
	"""Where things are, and how to run them."""

	def __init__(self, sources, directory, factor):
		self.sources = sources
		self.factor = factor
		self.directory = directory
		self.micro = os.path.join(directory, "micro")
		self.measure = os.path.join(directory, "measure")
		self.programs = os.path.join(sources, "programs")
		self.work = os.path.join(directory, "work")
		self.libc = ""
		os.makedirs(self.work, exist_ok=True)

	def build(self, compiler):
		"""Compiles micro and measure with the compiler of the build."""
		for target, names, libraries in (
				(self.micro, MICRO_SOURCES, ["-ldl"]),
				(self.measure, ("measure.c",), [])):
			paths = [os.path.join(self.sources, n) for n in names]
			subprocess.run([*shlex.split(compiler), *CFLAGS, "-o",
				target, *paths, *libraries], check=True)

	def program_names(self):
		"""The real programs: those that are here, and those missing."""
		here, missing = [], {}
		for name in self.script(["list"]).split():
			command = self.script(["missing", name]).strip()
			if command:
				missing[name] = command
			else:
				here.append(name)
		return here, missing

	def script(self, arguments):
		return subprocess.run([self.programs] + arguments, check=True,
			stdout=subprocess.PIPE, text=True).stdout

	def prepare(self, line):
		"""Makes a real program's input; whether that worked."""
		if line.group != "programs":
			return True
		directory = self.directory_of(line)
		os.makedirs(directory, exist_ok=True)
		done = subprocess.run([self.programs, "prepare",
			line.command[0]], cwd=directory, check=False)
		return done.returncode == 0

	def directory_of(self, line):
		return os.path.join(self.work, line.name.replace("/", "-"))

	def run(self, line, allocator):
		"""One run: a dictionary of what it cost and what came out."""
		cost = os.path.join(self.work, "cost")
		if os.path.exists(cost):
			os.remove(cost)
		preload = allocator.path
		if line.group == "programs" and not preload:
			# Some programs are linked with a malloc of their own.
			preload = self.libc
		prefix = [self.measure, "-o", cost, "-t", str(LIMIT)]
		if preload:
			prefix += ["-p", preload]
		environment = dict(os.environ)
		if allocator.options:
			environment["OSMEM_OPTIONS"] = allocator.options
		if line.group == "programs":
			environment["MEASURE"] = " ".join(prefix)
			command = [self.programs, "run", line.command[0]]
			directory = self.directory_of(line)
		else:
			# Less memory would be another question.
			factor = 1 if line.group == "memory" else self.factor
			command = prefix + [self.micro, "-s", str(factor)]
			command += line.command
			directory = self.work
		done = subprocess.run(command, cwd=directory, env=environment,
			stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
			stderr=subprocess.PIPE, check=False)
		return sample(line, done, cost)


def sample(line, done, cost):
	"""What a finished run says; "error" is set when it failed."""
	result = {"output": hashlib.sha256(done.stdout).hexdigest()}
	try:
		with open(cost, encoding="ascii") as file:
			user, system, rss, wall, status = file.read().split()
	except (OSError, ValueError):
		return {"error": last_line(done) or "it did not run"}
	result.update(cpu=float(user) + float(system), user=float(user),
		system=float(system), rss_kib=int(rss), wall=float(wall))
	status = done.returncode or int(status)
	if status == 124:
		result["error"] = "more than %d seconds" % LIMIT
	elif status != 0:
		result["error"] = "status %d %s" % (status, last_line(done))
	elif line.group != "programs":
		for key, value in re.findall(r"(\w+)=(-?[\d.]+)",
				done.stdout.decode()):
			if key not in result and key != "cpu":
				result[key] = float(value)
	return result


def last_line(done):
	lines = done.stderr.decode(errors="replace").strip().split("\n")
	return lines[-1][:120]
