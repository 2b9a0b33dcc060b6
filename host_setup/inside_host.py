# SPDX-License-Identifier: GPL-3.0-or-later
"""Make the host's modules importable in this process, and the pack as the host loads it: for tests and benchmarks.

Import this before anything of the host (`comfy`, `folder_paths`). The environment variable FIREEDIT_HOST names the ComfyUI; without it
the usual lookup finds one. Everything runs on the CPU.
"""

from __future__ import annotations

import importlib.util
import os
import sys
from types import ModuleType

from host_setup.host_lookup import REPO, require_host


def import_pack() -> ModuleType:
    """The pack's `nodes` package, under the name `fireedit_pack.nodes`; always the same one."""
    if "fireedit_pack.nodes" in sys.modules:
        return sys.modules["fireedit_pack.nodes"]
    sys.path.append(os.environ.get("FIREEDIT_HOST") or str(require_host().path))  # at the end: it has folders named like ours
    import comfy.cli_args

    comfy.cli_args.args.cpu = True
    spec = importlib.util.spec_from_file_location("fireedit_pack", REPO / "__init__.py", submodule_search_locations=[str(REPO)])
    pack = importlib.util.module_from_spec(spec)
    sys.modules["fireedit_pack"] = pack
    spec.loader.exec_module(pack)
    pack._load_core()
    return importlib.import_module("fireedit_pack.nodes")


nodes = import_pack()
