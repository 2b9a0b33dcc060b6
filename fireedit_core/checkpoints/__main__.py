# SPDX-License-Identifier: GPL-3.0-or-later
"""`python -m fireedit_core.checkpoints convert --out FOLDER ...`: a full-size bundle from public checkpoints (docs/convert.md)."""

from __future__ import annotations

import argparse
import logging
import sys
from dataclasses import fields
from pathlib import Path

from .convert import DTYPES, Sources, config_as_given, config_for_editing, convert
from .sd15 import SD15
from .sources.fit import SourceError

log = logging.getLogger("fireedit")

DONE, FAILED, USAGE, CANCELLED = 0, 1, 2, 130
HELP = {
    "instructpix2pix": "InstructPix2Pix or MagicBrush, single file or diffusers folder: UNet, autoencoder, text encoder",
    "language_model": "vicuna-7b-v1.5 or LLaVA-1.5-7b folder, with its tokenizer",
    "lora": "PEFT folder of a LoRA for it (default: a fresh one)",
    "dinov2": "dinov2-large folder",
    "clip": "clip-vit-large-patch14 folder",
    "groma": "groma-7b-pretrain, groma-7b-finetune or groma-det-pretrain folder: detector, region encoder, adapter",
    "smartedit_qformer": "SmartEdit's embeddings_qformer file",
    "ip_adapter": "ip-adapter_sd15 or ip-adapter-plus_sd15 file: K and V of the visual attention",
    "text_tokenizer": "folder with CLIP's vocab.json and merges.txt, as ComfyUI/comfy/sd1_tokenizer (default: beside the text encoder)",
    "ella": "ella-sd1.5-tsc-t5xl file: time embedding and two blocks of TATI",
}  # fmt: skip


def parser() -> argparse.ArgumentParser:
    """The command line."""
    main = argparse.ArgumentParser(prog="fireedit", description=__doc__)
    commands = main.add_subparsers(dest="command", required=True)
    command = commands.add_parser("convert", help="assemble a full-size bundle from public checkpoints")
    command.add_argument("--out", type=Path, required=True, metavar="FOLDER", help="the bundle; must not exist yet")
    for source in fields(Sources):
        command.add_argument("--" + source.name.replace("_", "-"), type=Path, metavar="PATH", help=HELP[source.name])
    command.add_argument("--roi-mode", choices=("groma_compat", "exact"), help="default: groma_compat with Groma's region encoder")
    size = command.add_mutually_exclusive_group()
    size.add_argument(
        "--any-size", action="store_true",
        help="take language model (Llama, Qwen2, Qwen3), DINOv2 and CLIP of any size and make the bundle's own parts to match "
        "(docs/make-your-own.md)",
    )  # fmt: skip
    size.add_argument(
        "--for-editing", action="store_true",
        help="a bundle of 2 GB that edits as its InstructPix2Pix does, and is no start for training: what that leaves out is tiny",
    )  # fmt: skip
    command.add_argument("--dtype", choices=DTYPES, default="float16", help="of the weights on disk (default %(default)s)")
    command.add_argument("--dry-run", action="store_true", help="check keys and shapes, print the report, write nothing")
    return main


def main(arguments: list[str] | None = None) -> int:
    """Run; returns the exit code."""
    options = parser().parse_args(arguments)
    logging.basicConfig(level=logging.WARNING, format="%(message)s", stream=sys.stderr)
    log.setLevel(logging.INFO)
    sources = Sources(**{source.name: getattr(options, source.name) for source in fields(Sources)})
    try:
        config = SD15
        if options.for_editing:
            config = config_for_editing(sources)
        elif options.any_size:
            config = config_as_given(sources, SD15)
        report = convert(
            options.out, sources, config=config, roi_mode=options.roi_mode, dtype=DTYPES[options.dtype], dry_run=options.dry_run
        )
    except SourceError as error:
        log.error("fireedit: %s", error)
        return USAGE
    except OSError as error:
        log.error("fireedit: the bundle could not be written, nothing was left behind: %s", error)
        return FAILED
    except KeyboardInterrupt:
        log.error("fireedit: cancelled; nothing was written")
        return CANCELLED
    sys.stdout.write(f"{report}\n")
    return DONE


if __name__ == "__main__":
    sys.exit(main())
