# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs pytest again and again without importing torch and its kin again: it forks. Reads pytest's arguments as JSON lines, says exit codes.

Started by `tests.mutants` in a copy of the tree. With "host" as argument the host's modules are there too.
"""

from __future__ import annotations

import json
import os
import sys


def load(host: bool) -> None:
    """What does not change between mutants."""
    import diffusers  # noqa: F401
    import numpy  # noqa: F401
    import pytest  # noqa: F401
    import torch  # noqa: F401
    import torchvision  # noqa: F401
    import transformers  # noqa: F401
    from diffusers import AutoencoderDC, EulerDiscreteScheduler, UNet2DConditionModel  # noqa: F401
    from transformers import CLIPVisionModel, Dinov2Model, LlamaForCausalLM, PreTrainedTokenizerFast  # noqa: F401

    if host:
        sys.path.append(os.environ["FIREEDIT_HOST"])
        import comfy.cli_args

        comfy.cli_args.args.cpu = True
        import comfy.samplers  # noqa: F401
        import comfy.sd  # noqa: F401


def run(arguments: list[str], log: str) -> int:
    """The exit code of pytest in a child process; its output goes to the file `log`."""
    child = os.fork()
    if child == 0:
        os.setpgid(0, 0)
        with open(log, "w") as file:
            os.dup2(file.fileno(), 1)
            os.dup2(file.fileno(), 2)
        import pytest

        code = 1
        try:
            code = int(pytest.main(arguments))
        finally:
            sys.stdout.flush()
            os._exit(code)
    sys.stdout.write(f"{child}\n")
    sys.stdout.flush()
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


if __name__ == "__main__":
    sys.dont_write_bytecode = True
    sys.path.pop(0)  # this folder
    load("host" in sys.argv)
    for line in sys.stdin:
        question = json.loads(line)
        sys.stdout.write(f"{run(question['arguments'], question['log'])}\n")
        sys.stdout.flush()
