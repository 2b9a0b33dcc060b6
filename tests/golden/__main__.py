# SPDX-License-Identifier: GPL-3.0-or-later
"""Write `expected.json` anew: `make golden`, or `python -m tests.golden [--check]`. Prints what differs from before."""

from __future__ import annotations

import argparse
import json
import os
import sys
from typing import Any

import numpy as np

from .cases import CASES, EXPECTED, NODES_ONLY, by_pipeline, described, differences, turns_by_pipeline


def plain(value: Any) -> Any:
    """Numbers as JSON has them, to five places."""
    if isinstance(value, np.ndarray):
        return plain(value.tolist())
    if isinstance(value, list):
        return [plain(one) for one in value]
    return round(value, 5) if isinstance(value, float) else value


def main() -> int:
    """Compute, compare, write. 1 if --check finds a difference."""
    options = argparse.ArgumentParser(prog="python -m tests.golden", description=__doc__)
    options.add_argument("--check", action="store_true", help="only print the differences")
    check = options.parse_args().check
    if "PYTEST_CURRENT_TEST" in os.environ or "PYTEST_VERSION" in os.environ:
        raise SystemExit("expected values are not renewed inside a test: a fault would become what is expected")
    from .by_nodes import by_nodes  # starts the host

    found = {name: by_pipeline(case) for name, case in CASES.items()} | turns_by_pipeline()
    found |= {name: by_nodes(case) for name, case in NODES_ONLY.items()}
    new = {name: {key: plain(value) for key, value in described(*values).items()} for name, values in found.items()}
    old = json.loads(EXPECTED.read_text(encoding="utf-8")) if EXPECTED.is_file() else {}
    count = 0
    for name, values in new.items():
        for line in differences(values, old.get(name, {}), 0.0):
            count += 1
            sys.stdout.write(f"{name}: {line}\n")
    sys.stdout.write(f"{count} differences; " + ("nothing written\n" if check else f"written to {EXPECTED}\n"))
    if not check:
        lines = [f"  {json.dumps(name)}: {json.dumps(values)}" for name, values in new.items()]
        EXPECTED.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")
    return int(check and count > 0)


if __name__ == "__main__":
    sys.exit(main())
