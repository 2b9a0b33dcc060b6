# SPDX-License-Identifier: GPL-3.0-or-later
"""What others measured, to stand beside one's own numbers, each with where it comes from.

`how` is "paper" for a number in a paper's table, "re-run" for one that somebody else measured, "second hand" for one that was read off
another's table or report: look it up before you quote it.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Published:
    """One row: an editor's numbers by metric name, on the plain scale of our results (not as tables print them)."""

    editor: str
    profile: str
    view: str
    values: dict[str, float]
    source: str
    how: str
    task: str = "overall"


FIREEDIT_PAPER = "FireEdit, arXiv 2503.19839"
MAGICBRUSH_RERUN = "a user's run of MagicBrush's script, MagicBrush#27"

ROWS = (
    Published("FireEdit (paper)", "magicbrush", "single", {"l1": 0.0701, "l2": 0.0238, "clip_i": 0.9131, "dino": 0.8619},
              FIREEDIT_PAPER, "paper"),
    Published("InstructPix2Pix tuned on MagicBrush", "magicbrush", "single", {"l1": 0.0625, "clip_i": 0.9332}, FIREEDIT_PAPER, "paper"),
    Published("MagicBrush, paper's weights", "magicbrush", "single",
              {"l1": 0.0656, "l2": 0.0217, "clip_i": 0.9253, "dino": 0.8895, "clip_t": 0.2722}, MAGICBRUSH_RERUN, "re-run"),
    Published("MagicBrush, weights 52-4999", "magicbrush", "single", {"l1": 0.0784}, MAGICBRUSH_RERUN, "re-run"),
    Published("the targets, as others measured", "magicbrush", "single", {"clip_t": 0.28259}, MAGICBRUSH_RERUN, "re-run"),
    Published("FireEdit (paper)", "magicbrush", "multi", {"l1": 0.0911, "l2": 0.0326, "clip_i": 0.8819, "dino": 0.8010},
              FIREEDIT_PAPER, "paper"),
    Published("InstructPix2Pix tuned on MagicBrush", "magicbrush", "multi",
              {"l1": 0.0964, "l2": 0.0353, "clip_i": 0.8924, "dino": 0.8273}, FIREEDIT_PAPER, "paper"),
    Published("MagicBrush, paper's weights", "magicbrush", "multi",
              {"l1": 0.0850, "l2": 0.0297, "clip_i": 0.8985, "dino": 0.8436, "clip_t": 0.2764}, MAGICBRUSH_RERUN, "re-run"),
    Published("MagicBrush, weights 52-4999", "magicbrush", "multi",
              {"l1": 0.1006, "l2": 0.0368, "clip_i": 0.8692, "dino": 0.7831, "clip_t": 0.2827}, MAGICBRUSH_RERUN, "re-run"),
    Published("the targets, as others measured", "magicbrush", "multi", {"clip_t": 0.28554}, MAGICBRUSH_RERUN, "re-run"),
    Published("FireEdit (paper)", "fireedit_emu", "all",
              {"l1": 0.0574, "clip_i": 0.9140, "dino": 0.8829, "lpips": 0.1373, "clip_t": 0.2783}, FIREEDIT_PAPER, "paper"),
    Published("FireEdit without region tokens, TATI, HVCA", "fireedit_emu", "all", {"l1": 0.0897, "lpips": 0.3174, "clip_t": 0.2770},
              f"{FIREEDIT_PAPER}, ablation", "second hand"),
    Published("FireEdit, region tokens only", "fireedit_emu", "all", {"l1": 0.0859, "lpips": 0.2391},
              f"{FIREEDIT_PAPER}, ablation", "second hand"),
    Published("FireEdit without HVCA", "fireedit_emu", "all", {"l1": 0.0609, "lpips": 0.1580, "clip_i": 0.9258},
              f"{FIREEDIT_PAPER}, ablation", "second hand"),
    Published("SmartEdit", "fireedit_emu", "all", {"l1": 0.1186, "lpips": 0.2717}, f"table in {FIREEDIT_PAPER}", "second hand"),
    Published("MGIE", "fireedit_emu", "all", {"lpips": 0.3801}, f"table in {FIREEDIT_PAPER}", "second hand"),
    Published("UltraEdit", "fireedit_emu", "all", {"clip_t": 0.2773}, f"table in {FIREEDIT_PAPER}", "second hand"),
    Published("ICEdit", "emu_l14_clean", "all", {"clip_i": 0.894, "clip_t": 0.301, "dino": 0.844}, "a user's run, ICEdit#69", "re-run"),
    Published("OmniGen2", "emu_l14_clean", "all", {"clip_t": 0.311, "clip_i": 0.896, "dino": 0.876}, "its report; versions not all named",
              "second hand"),
    Published("Emu Edit", "emu_l14_clean", "all", {"clip_dir": 0.109, "clip_t": 0.231, "dino": 0.819},
              "Emu Edit, arXiv 2311.10089; its CLIP and DINO are not named", "paper"),
    Published("Direct Inversion + Prompt-to-Prompt", "pie_bench", "all",
              {"structure_distance": 0.01165, "psnr_background": 27.22, "lpips_background": 0.05455, "clip_score": 25.02},
              "PnP Inversion, arXiv 2310.01506, as paperswithcode.com lists it", "second hand"),
    Published("RefEdit-SD3", "refedit_bench", "all", {"sc": 6.21, "pq": 5.31, "o": 4.98},
              "output kept in the authors' metrics/VIEScore/refedit.ipynb, judged by GPT-4o", "re-run", "easy"),
    Published("RefEdit-SD3", "refedit_bench", "all", {"sc": 5.02, "pq": 5.42, "o": 4.00},
              "output kept in the authors' metrics/VIEScore/refedit.ipynb, judged by GPT-4o", "re-run", "hard"),
)  # fmt: skip

# Editors of today on scales that a judge model gives: not comparable with anything measured here, but they say where the field is.
# ImgEdit overall (1 to 5) and GEdit-Bench-EN O (0 to 10), both by GPT-4.1.
JUDGED_HEAD = ("editor", "size", "ImgEdit", "GEdit-EN O", "source")
JUDGED = (
    ("Qwen-Image-Edit-2511", "20B", "4.51", "7.88", "report"),
    ("UniWorld-V2", "-", "4.49", "7.83", "report"),
    ("JoyAI-Image-Edit", "-", "4.46", "8.28", "second hand"),
    ("LongCat-Image-Edit", "6B", "4.45", "7.75", "report"),
    ("FLUX.2 dev", "32B", "4.35", "7.41", "report"),
    ("Qwen-Image-Edit-2509", "20B", "4.35", "7.54", "report"),
    ("Z-Image-Edit", "6B", "4.30", "7.57", "report"),
    ("GPT-Image-1", "-", "4.20", "7.53", "report"),
    ("FLUX.1 Kontext dev", "12B", "3.71", "6.00", "report"),
    ("VIBE", "1.6B", "3.85", "6.81", "second hand"),
    ("OmniGen2", "4B", "3.44", "6.41", "report"),
    ("Step1X-Edit", "12B", "3.06", "6.70", "report"),
    ("ICEdit", "12B + LoRA", "3.05", "-", "report"),
    ("UltraEdit (SD3)", "2B", "2.70", "-", "report"),
    ("AnyEdit", "0.9B", "2.45", "3.21", "report"),
    ("InstructPix2Pix", "0.9B", "1.88", "3.68", "report"),
    ("MagicBrush", "0.9B", "1.83", "4.52", "report"),
)  # fmt: skip


def beside(profile: str, view: str) -> list[Published]:
    """The rows that may stand beside a table of this profile and view."""
    return [row for row in ROWS if row.profile == profile and row.view == view]
