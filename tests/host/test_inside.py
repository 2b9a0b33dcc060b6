# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs the tests in inside/ and devices/, which need the host's modules, in a process of their own each."""

from __future__ import annotations

import os
import subprocess

import pytest

from host_setup.host_lookup import REPO, find_python, require_host


@pytest.mark.parametrize("folder", ("inside", "devices"))
def test_inside_the_host(folder):
    host = require_host()
    place = f"tests/host/{folder}"
    command = [find_python(host), "-m", "pytest", place, "-q", "-rs", f"--confcutdir={place}", "-p", "no:cacheprovider"]
    # models this small are several times slower on many threads
    env = {"OMP_NUM_THREADS": "1", **os.environ, "FIREEDIT_HOST": str(host.path)}
    done = subprocess.run(command, cwd=REPO, env=env, capture_output=True, text=True, timeout=1200)
    assert done.returncode == 0, done.stdout[-8000:] + done.stderr[-2000:]
    if " passed" not in done.stdout.splitlines()[-1]:  # torch cannot simulate a device
        pytest.skip(done.stdout[-600:])
