# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs the tests in inside/ and devices/, which need the host's modules, in a process of their own each."""

from __future__ import annotations

import os
import subprocess

import pytest

from host_setup.host_lookup import REPO, find_python, require_host

INSIDE, DEVICES = "tests/host/inside", "tests/host/devices"
# Of the tests in inside/, those that run on the simulated device too: all would take a quarter of an hour there (CONTRIBUTING.md has the
# command, and all of them hold). What takes seconds: the photo nodes, rows, masks and regions, the VAE, the guider, patches, sampling.
ON_THE_DEVICE = (
    "conditioning", "guider", "rows", "regions", "region_masks", "quick_edit", "ground", "vae", "schema", "unet", "compare", "folders",
    "photo_crop", "photo_finish", "patching", "sampling",
)  # fmt: skip
RUNS = {
    "inside": (INSIDE, [INSIDE]),
    "devices": (DEVICES, [DEVICES]),
    "inside, on the simulated device": (
        INSIDE, [*(f"{INSIDE}/test_{name}.py" for name in ON_THE_DEVICE), "-p", "tests.host.devices.on_simulated_device"]
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", RUNS)
def test_inside_the_host(name):
    host = require_host()
    conftest, arguments = RUNS[name]
    command = [find_python(host), "-m", "pytest", *arguments, "-q", "-rs", f"--confcutdir={conftest}", "-p", "no:cacheprovider"]
    # models this small are several times slower on many threads
    env = {"OMP_NUM_THREADS": "1", **os.environ, "FIREEDIT_HOST": str(host.path)}
    done = subprocess.run(command, cwd=REPO, env=env, capture_output=True, text=True, timeout=1200)
    assert done.returncode == 0, done.stdout[-8000:] + done.stderr[-2000:]
    if " passed" not in done.stdout.splitlines()[-1]:  # torch cannot simulate a device
        pytest.skip(done.stdout[-600:])
