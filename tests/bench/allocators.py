# SPDX-License-Identifier: MIT
"""allocators.py - whose malloc is measured, and where it is.

osmem is the replacement of this build, libc is no preload at all; the others
are found where the machine's linker finds them, or named by path. Each has to
prove that malloc comes from it before it gets a column.
"""

import collections
import glob
import os
import re
import subprocess

Allocator = collections.namedtuple("Allocator", "name path ours options")

# Name, and what its library is called on Linux distributions.
PEERS = {
	"mimalloc": r"libmimalloc\.so(\.\d+)*",
	"jemalloc": r"libjemalloc\.so(\.\d+)*",
	"tcmalloc": r"libtcmalloc_minimal\.so(\.\d+)*",
}

DEFAULT = ["osmem", "libc"] + list(PEERS)

# Whatever tunes one of them would make the run incomparable.
TUNING = re.compile(r"LD_PRELOAD|OSMEM_OPTIONS|GLIBC_TUNABLES|MALLOC_\w+"
		r"|MALLOPT_\w+|MIMALLOC_\w+|TCMALLOC_\w+")


def clean_environment():
	for name in list(os.environ):
		if TUNING.fullmatch(name):
			del os.environ[name]


def libraries():
	"""The paths of all shared libraries that the linker knows."""
	for ldconfig in ("/sbin/ldconfig", "ldconfig"):
		try:
			text = subprocess.run([ldconfig, "-p"], check=True,
				stdout=subprocess.PIPE, text=True).stdout
		except (OSError, subprocess.CalledProcessError):
			continue
		return re.findall(r"=> (\S+)", text)
	return sorted(glob.glob("/usr/lib*/*.so*")
		+ glob.glob("/usr/lib/*/*.so*") + glob.glob("/usr/local/lib/*"))


def own_library(builddir):
	for place in (".libs", "lib/.libs"):
		path = os.path.join(builddir, place, "libosmem-malloc.so")
		if os.path.exists(path):
			return os.path.abspath(path)
	return None


def locate(spec, builddir):
	"""The allocator that spec names; its path is None if it is not here.

	A spec is osmem, osmem:OPTIONS with + in place of commas, libc, a name
	of PEERS, or NAME=PATH for any other library.
	"""
	name, _, path = spec.partition("=")
	if name == "osmem" and path:
		return Allocator(name, os.path.abspath(path), True, "")
	if name.split(":")[0] == "osmem":
		options = spec.partition(":")[2].replace("+", ",")
		return Allocator(spec, own_library(builddir), True, options)
	if path:
		return Allocator(name, os.path.abspath(path), False, "")
	if name == "libc":
		return Allocator(name, "", False, "")
	if name not in PEERS:
		return Allocator(name, None, False, "")
	for path in libraries():
		if re.fullmatch(PEERS[name], os.path.basename(path)):
			return Allocator(name, path, False, "")
	return Allocator(name, None, False, "")


def provider(allocator, micro):
	"""The file that malloc comes from under this allocator, or ''."""
	environment = dict(os.environ)
	if allocator.path:
		environment["LD_PRELOAD"] = allocator.path
	done = subprocess.run([micro, "whose"], env=environment, text=True,
		stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=False)
	return done.stdout.strip() if done.returncode == 0 else ""


def proven(allocator, micro):
	"""Why the allocator cannot be measured, or None."""
	if allocator.path is None:
		return "not installed"
	found = provider(allocator, micro)
	if not found:
		return "programs do not start with it"
	if allocator.path and not os.path.samefile(found, allocator.path):
		return "malloc still comes from " + found
	return None
