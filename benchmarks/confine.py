# SPDX-License-Identifier: GPL-3.0-or-later
"""``python -m benchmarks.confine``: what FireEdit Confine costs per step, on a transformer of Flux Kontext's build and a UNet.

Weights are random: they do not change how long anything takes. Both models are far smaller than those that artists use, while the
confinement's own work depends on the latent alone: so the share here is more than it is there. Plain and confined model take turns, and
CPU seconds of this process are counted, so that a busy machine changes little: give it one thread (OMP_NUM_THREADS=1) there.
"""

from __future__ import annotations

import argparse
import datetime
import logging
import shlex
import statistics
import sys
import time
from pathlib import Path

import torch

from benchmarks.edit import machine_line
from benchmarks.overhead import Times, turns
from fireedit_core.evaluation.summary import markdown_table
from host_setup.host_lookup import REPO
from host_setup.inside_host import nodes  # noqa: F401  makes the host importable

import comfy.sample  # isort: skip
import comfy.supported_models  # isort: skip
from comfy.ldm.flux.model import FluxParams  # isort: skip
from comfy.model_patcher import ModelPatcher  # isort: skip
from fireedit_pack.nodes.host import compat, confine  # isort: skip

log = logging.getLogger("fireedit")

MOST_OVERHEAD = 0.03  # of the CPU time of a run; what issue 19 asks for
STEPS, SIDE = 4, 128  # about a second of CPU time a run: ratios of shorter ones are noise
FLUX = {
    "image_model": "flux", "guidance_embed": True, "in_channels": 16, "out_channels": 16, "vec_in_dim": 64, "context_in_dim": 64,
    "hidden_size": 384, "mlp_ratio": 4.0, "num_heads": 6, "depth": 3, "depth_single_blocks": 6, "axes_dim": [8, 28, 28], "theta": 10000,
    "patch_size": 2, "qkv_bias": True, **compat.known(FluxParams, txt_ids_dims=[]),
}  # fmt: skip
UNET = {
    "image_size": 32, "in_channels": 8, "out_channels": 4, "model_channels": 128, "num_res_blocks": [2, 2, 2], "channel_mult": [1, 2, 4],
    "transformer_depth": [1, 1, 1, 1, 0, 0], "transformer_depth_output": [1, 1, 1, 1, 1, 1, 0, 0, 0], "transformer_depth_middle": 1,
    "context_dim": 64, "use_spatial_transformer": True, "use_linear_in_transformer": False, "legacy": False, "num_heads": 4,
    "num_head_channels": -1, "adm_in_channels": None, "use_temporal_attention": False, "use_checkpoint": False,
}  # fmt: skip


def build(kind: type, config: dict) -> ModelPatcher:
    """The host's model of that configuration, with small random weights."""
    known = kind(dict(config))
    known.set_inference_dtype(torch.float32, None)
    model = known.get_model({}, "").float().eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(std=0.02)
    return ModelPatcher(model, load_device=torch.device("cpu"), offload_device=torch.device("cpu"))


@torch.inference_mode()
def measure(runs: int) -> dict[str, Times]:
    """CPU seconds of a run without and with FireEdit Confine, with a given and with an automatic mask."""
    torch.manual_seed(0)
    cells = SIDE // 8
    mask = torch.zeros(1, SIDE, SIDE)
    mask[:, SIDE // 4 : SIDE // 2, SIDE // 4 : SIDE // 2] = 1
    cases = {
        "transformer (Flux Kontext's build)": (comfy.supported_models.Flux, FLUX, 16, {"pooled_output": torch.randn(1, 64)}),
        "UNet (InstructPix2Pix's build)": (comfy.supported_models.SD15_instructpix2pix, UNET, 4, {}),
    }
    found = {}
    for name, (kind, config, channels, told) in cases.items():
        model = build(kind, config)
        source = torch.randn(1, channels, cells, cells)
        picture = {"reference_latents": [source]} if channels == 16 else {"concat_latent_image": source}
        conds = [[[torch.randn(1, 77, 64), told | picture]] for _ in range(2)]
        empty = torch.zeros_like(source)
        noise = comfy.sample.prepare_noise(empty, 0)

        def run(which, conds=conds, empty=empty, noise=noise):
            comfy.sample.sample(which, noise, STEPS, 1.0, "euler", "simple", *conds, empty, disable_pbar=True)

        size = f"{sum(p.numel() for p in model.model.diffusion_model.parameters()) / 1e6:.0f}M parameters"
        for how, given in (("a mask", mask), ("the automatic mask", None)):
            confined = confine.apply(model, confine.Settings(given, None))
            found[f"{name}, {size}, {how}"] = turns(
                lambda run=run, model=model: run(model), lambda run=run, confined=confined: run(confined), runs, time.process_time, how
            )
    return found


def page(found: dict[str, Times], command: str) -> str:
    """docs/confine-overhead.md."""
    ratio = lambda t: statistics.median(t.patched) / statistics.median(t.plain)  # noqa: E731
    rows = [
        [
            name, f"{statistics.median(t.plain) / STEPS:.3f}", f"{statistics.median(t.patched) / STEPS:.3f}", f"x {ratio(t):.3f}",
            f"x {t.ratio:.3f}", str(len(t.plain)),
        ]
        for name, t in found.items()
    ]  # fmt: skip
    return "\n\n".join([
        "# What FireEdit Confine adds to a step",
        f"Written by `{command}` on {datetime.date.today().isoformat()}. {machine_line()}.",
        f"Random models in ComfyUI's own sampling, {SIDE} px, {STEPS} steps, with and without FireEdit Confine, by turns. CPU seconds of a "
        "step. The models are far smaller than those in use; what the node does depends on the latent alone: its share is smaller there.",
        markdown_table(("model", "plain, s", "confined, s", "medians", "median of the pairs", "pairs"), rows),
        f"Goal: at most x {1 + MOST_OVERHEAD:.2f}; the largest of the medians is x {max(map(ratio, found.values())):.3f}.",
    ]) + "\n"  # fmt: skip


def main(arguments: list[str] | None = None) -> int:
    """Run, print, write."""
    arguments = sys.argv[1:] if arguments is None else arguments
    parser = argparse.ArgumentParser(prog="python -m benchmarks.confine", description=__doc__)
    parser.add_argument("--runs", type=int, default=11, help="pairs per line (11: two minutes on an idle core)")
    parser.add_argument("--out", type=Path, default=REPO / "docs" / "confine-overhead.md")
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.WARNING, format="%(message)s", stream=sys.stdout)
    text = page(measure(options.runs), " ".join(["python -m benchmarks.confine", shlex.join(arguments)]).strip())
    sys.stdout.write(text)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
