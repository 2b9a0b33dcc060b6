# SPDX-License-Identifier: GPL-3.0-or-later
"""Write locales/en/nodeDefs.json from the running host: `python -m authoring.make_locales`. The other languages are written by hand.

The front end takes names, descriptions and tooltips of nodes from these files; outputs are keyed by their number. Names of sockets
stay what they are in English, because graphs, help pages and error messages speak of them.
"""

from __future__ import annotations

import json
import sys
from typing import Any

from fireedit_cli.comfy_host import ComfyServer
from host_setup.host_lookup import REPO

LOCALES = REPO / "locales"
LANGUAGES = ("en", "zh", "ja", "ko", "fr", "de", "es")


def node_definitions(info: dict[str, Any]) -> dict[str, Any]:
    """The English texts of our nodes in the front end's form."""
    found = {}
    for name, node in info.items():
        if not node["category"].startswith("FireEdit"):
            continue
        specs = {**node["input"].get("required", {}), **node["input"].get("optional", {})}
        found[name] = {
            "display_name": node["display_name"],
            "description": node["description"],
            "inputs": {key: {"name": key, "tooltip": spec[1].get("tooltip", "")} for key, spec in specs.items()},
            "outputs": {
                str(i): {"name": key, "tooltip": tip} for i, (key, tip) in enumerate(zip(node["output_name"], node["output_tooltips"]))
            },
        }
    return found


def main() -> int:
    """Write the English file."""
    with ComfyServer(cpu=True) as server:
        definitions = node_definitions(server.object_info())
    path = LOCALES / "en" / "nodeDefs.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(definitions, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    sys.stdout.write(f"wrote {path}: {len(definitions)} nodes\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
