# SPDX-License-Identifier: GPL-3.0-or-later
"""Starting the host with the pack costs next to nothing, and does nothing to the machine."""

from __future__ import annotations

import json
import subprocess
import sys

from host_setup.host_lookup import REPO, require_host

HEAVY = (
    "diffusers", "transformers", "accelerate", "peft", "ultralytics", "torchvision", "matplotlib", "scipy", "cv2", "numba", "pymatting",
)  # fmt: skip
SCRIPT = """
import importlib, importlib.util, json, sys
sys.dont_write_bytecode = True
sys.path.insert(0, {host!r})
import comfy.cli_args
comfy.cli_args.args.cpu = True
import aiohttp.web, comfy.samplers, comfy.sd, comfy_api.v0_0_2, folder_paths, latent_preview  # the host has these
events, before = [], set(sys.modules)
def watch(event, arguments):
    if event == "open" and isinstance(arguments[0], str):
        mode, flags = arguments[1] or "", arguments[2] or 0
        events.append(("write" if set(mode) & set("wax+") or flags & 3 else "read", arguments[0]))
    elif event.split(".")[0] in ("socket", "subprocess", "shutil") or event in (
        "os.mkdir", "os.remove", "os.rename", "os.rmdir", "os.link", "os.symlink", "os.chmod", "os.utime", "os.system", "os.exec",
        "os.fork", "os.posix_spawn", "os.putenv", "urllib.Request",
    ):
        events.append((event, str(arguments)[:200]))
sys.addaudithook(watch)
spec = importlib.util.spec_from_file_location("some/fireedit", {repo!r} + "/__init__.py", submodule_search_locations=[{repo!r}])
pack = importlib.util.module_from_spec(spec)
sys.modules[spec.name] = pack
spec.loader.exec_module(pack)
import asyncio
nodes = asyncio.run(asyncio.run(pack.comfy_entrypoint()).get_node_list())
done = list(events)
print(json.dumps({{"nodes": len(nodes), "events": done, "modules": sorted(set(sys.modules) - before)}}))
"""


def test_importing_the_pack_touches_nothing():
    host = require_host()
    code = SCRIPT.format(host=str(host.path), repo=str(REPO))
    ran = subprocess.run([sys.executable, "-c", code], cwd=host.path, capture_output=True, text=True, timeout=300)
    assert ran.returncode == 0, ran.stderr
    found = json.loads(ran.stdout.splitlines()[-1])
    assert found["nodes"] >= 20
    loaded = {name.split(".")[0] for name in found["modules"]}
    assert not loaded & set(HEAVY), "libraries that take seconds are for the first run, not for the start"
    loop = ("socket.", "os.putenv")  # asyncio's own pair of sockets, made by this test
    assert not [e for e in found["events"] if e[0] != "read" and not e[0].startswith(loop)]
    assert not [e for e in found["events"] if e[0] in ("socket.connect", "socket.getaddrinfo", "socket.gethostbyname", "socket.bind")]
    places = (str(REPO), sys.prefix, sys.base_prefix, str(host.path))
    assert not [path for kind, path in found["events"] if kind == "read" and not path.startswith(places)]
