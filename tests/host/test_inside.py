# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs the tests in inside/, which need the host's modules, in a process of their own."""

from __future__ import annotations

import os
import subprocess

from host_setup.host_lookup import REPO, find_python, require_host


def test_inside_the_host():
    host = require_host()
    command = [find_python(host), "-m", "pytest", "tests/host/inside", "-q", "--confcutdir=tests/host/inside", "-p", "no:cacheprovider"]
    # models this small are several times slower on many threads
    env = {"OMP_NUM_THREADS": "1", **os.environ, "FIREEDIT_HOST": str(host.path)}
    done = subprocess.run(command, cwd=REPO, env=env, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stdout[-8000:] + done.stderr[-2000:]
