# SPDX-License-Identifier: GPL-3.0-or-later
"""CLIP's tokenizer, from any folder that has one, as the one class that every release of transformers loads from its own file."""

from __future__ import annotations

from pathlib import Path

from transformers import CLIPTokenizerFast, PreTrainedTokenizerFast

from .fit import SourceError

GET = "ComfyUI has one in comfy/sd1_tokenizer; so has the folder openai/clip-vit-large-patch14."


def has_tokenizer(folder: Path) -> bool:
    """Whether the folder holds a tokenizer of CLIP's kind."""
    return (folder / "vocab.json").is_file() and (folder / "merges.txt").is_file() or (folder / "tokenizer.json").is_file()


def read(folder: Path, words: int, rows: int) -> PreTrainedTokenizerFast:
    """The tokenizer of a folder with vocab.json and merges.txt, or tokenizer.json; it pads with its end token.

    Args:
        words: of the text tower's vocabulary. rows: tokens that the tower reads.

    Raises:
        SourceError: if there is none, or it belongs to another tower.
    """
    if not has_tokenizer(folder):
        raise SourceError(f"{folder} has no vocab.json with merges.txt, and no tokenizer.json. {GET}")
    try:
        read = CLIPTokenizerFast.from_pretrained(str(folder), local_files_only=True)
    except Exception as error:  # whatever the Rust side raises
        raise SourceError(f"{folder} has a tokenizer that cannot be read: {error}. {GET}") from error
    start, end = str(read.bos_token), str(read.eos_token)
    made = PreTrainedTokenizerFast(
        tokenizer_object=read.backend_tokenizer, bos_token=start, eos_token=end, unk_token=end, pad_token=end, model_max_length=rows
    )
    ids = made("")["input_ids"]
    if ids != [words - 2, words - 1] or max(made.get_vocab().values()) >= words:
        raise SourceError(
            f"{folder} has a tokenizer that is not CLIP-L's: of nothing it makes {ids}, where the start and the end token {words - 2} and "
            f"{words - 1} were expected. {GET}"
        )
    return made
