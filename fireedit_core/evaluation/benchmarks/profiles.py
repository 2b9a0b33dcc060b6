# SPDX-License-Identifier: GPL-3.0-or-later
"""What is measured, frozen: a profile names its metrics, networks, preparation of pictures and reference, and has a version and a hash.

Numbers of two results may stand in one table only where the hashes are equal. Whoever changes how a number comes about gives the profile
a new version; a test holds every hash against its version.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass

B32, L14 = "clip-vit-base-patch32", "clip-vit-large-patch14"
VITS16, VITB8 = "dino-vits16", "dino-vitb8"
ALEX, SQUEEZE = "lpips/alexnet", "lpips/squeezenet1_1"

CLIP_PREPARATION = "CLIP: RGB, short side to the network's (PIL bicubic), centre crop, OpenAI's mean and deviation; cosine"
DINO_PREPARATION = "DINO: RGB, short side 256 (PIL bicubic), centre crop 224, ImageNet's mean and deviation; class token; cosine"
STRUCTURE_PREPARATION = (
    "structure distance: pixels 0..255, bilinear (antialias) to short side 224, ImageNet's mean and deviation; mean squared difference of "
    "the self-similarities of the last layer's keys"
)
STRUCTURE_SHARP = STRUCTURE_PREPARATION.replace("antialias", "no antialias")
RESIZE_TO_REFERENCE = "pixels and LPIPS: the edit is resized to the reference (PIL bicubic); RGB on 0..1; mean over pixels, then pictures"
BACKGROUND = "background: both pictures times (1 - mask), the mean over all pixels; none where the mask is everything"
CLIP_SCORE = "CLIP score: 100 x cosine, negative ones 0; of the edited part: the edit times the mask"


@dataclass(frozen=True)
class Metric:
    """One number per picture.

    Attributes:
        name: unique in a profile. kind: the function in `measures` that computes it. weights: the network it needs, "" for none.
        label: heading in tables. more: more is better. scale, digits: how tables print it; results keep the plain value.
    """

    name: str
    kind: str
    weights: str
    label: str
    more: bool
    scale: float = 1.0
    digits: int = 4


@dataclass(frozen=True)
class Profile:
    """Metrics and all that a number depends on besides the pictures.

    Attributes:
        reference: what an edit is compared with: "target" (the benchmark's), "source", or "edited_image" (Emu Edit's own result).
        reader: options of the benchmark's reader that leave rows out. preparation: sentences, part of the hash. note: for people only.
    """

    name: str
    benchmark: str
    version: int
    reference: str
    metrics: tuple[Metric, ...]
    preparation: tuple[str, ...]
    reader: tuple[str, ...] = ()
    note: str = ""

    @property
    def fingerprint(self) -> str:
        """Twelve hex digits over everything but the note and how tables print a number."""
        content = asdict(self)
        del content["note"]
        for metric in content["metrics"]:
            for shown in ("label", "scale", "digits"):
                del metric[shown]
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:12]


def _l1() -> Metric:
    return Metric("l1", "l1", "", "L1", more=False)


def _l2() -> Metric:
    return Metric("l2", "l2", "", "L2", more=False)


def _clip_i(network: str) -> Metric:
    return Metric("clip_i", "clip_picture", network, "CLIP-I", more=True)


def _clip_t(network: str) -> Metric:
    return Metric("clip_t", "clip_text", network, "CLIP-T", more=True)


def _clip_dir(network: str) -> Metric:
    return Metric("clip_dir", "clip_direction", network, "CLIP-dir", more=True)


def _dino() -> Metric:
    return Metric("dino", "dino", VITS16, "DINO", more=True)


def _lpips() -> Metric:
    return Metric("lpips", "lpips", ALEX, "LPIPS", more=False)


MAGICBRUSH = Profile(
    "magicbrush", "magicbrush", 1, "target",
    (_l1(), _l2(), _clip_i(B32), _dino(), _clip_t(B32), _lpips()),
    (RESIZE_TO_REFERENCE, CLIP_PREPARATION, DINO_PREPARATION, "CLIP-T: the local description of the turn's target"),
    note="The authors' image_eval.py (newest, with its sorting repaired). LPIPS (alex) is not part of it and stands beside it.",
)  # fmt: skip

FIREEDIT_EMU = Profile(
    "fireedit_emu", "emu", 1, "source",
    (_l1(), _clip_i(B32), _dino(), _lpips(), _clip_t(B32), _clip_dir(B32)),
    (RESIZE_TO_REFERENCE, CLIP_PREPARATION, DINO_PREPARATION, "CLIP-T: output_caption; CLIP-dir: none where the two captions are the same"),
    note="Inferred, not stated in the paper: its CLIP-T of .277 to .278 is the level of ViT-B/32 on all rows, uncleaned, as UltraEdit "
    "measures; the net of its LPIPS is not named and taken to be alex, the usual one.",
)  # fmt: skip

EMU_L14_CLEAN = Profile(
    "emu_l14_clean", "emu", 1, "source",
    (_l1(), _clip_i(L14), _dino(), _clip_t(L14), _clip_dir(L14)),
    (RESIZE_TO_REFERENCE, CLIP_PREPARATION, DINO_PREPARATION, "CLIP-T: output_caption"),
    reader=("drop_identical_captions", "drop_placeholder_captions"),
    note="The way of ICEdit and OmniGen: ViT-L/14, rows left out whose captions say nothing.",
)  # fmt: skip

ANYEDIT_PSEUDO_GT = Profile(
    "anyedit_pseudo_gt", "emu", 1, "edited_image",
    (_l1(), _l2(), _clip_i(B32), _dino(), _clip_t(B32)),
    (RESIZE_TO_REFERENCE, CLIP_PREPARATION, DINO_PREPARATION, "CLIP-T: output_caption", "an edit that is all black is left out"),
    note="AnyEdit's variant: compared with the picture that Emu Edit made, so it needs the set of generations.",
)  # fmt: skip


def _pie_metrics(structure: str = "structure_distance") -> tuple[Metric, ...]:
    return (
        Metric("structure_distance", structure, VITB8, "structure distance ×10³", more=False, scale=1e3, digits=2),
        Metric("psnr_background", "psnr_background", "", "PSNR background", more=True, digits=2),
        Metric("lpips_background", "lpips_background", SQUEEZE, "LPIPS background ×10³", more=False, scale=1e3, digits=2),
        Metric("mse_background", "mse_background", "", "MSE background ×10⁴", more=False, scale=1e4, digits=2),
        Metric("ssim_background", "ssim_background", "", "SSIM background ×10²", more=True, scale=1e2, digits=2),
        Metric("clip_score", "clip_score", L14, "CLIP score", more=True, digits=2),
        Metric("clip_score_edited", "clip_score_edited", L14, "CLIP score, edited part", more=True, digits=2),
    )


PIE_PREPARATION = (
    "an edit that is not square: its right-most 512 x 512; a square of another size: resized to 512 (PIL bicubic)",
    "mask: run lengths over 512 x 512, the border set", BACKGROUND, CLIP_SCORE, CLIP_PREPARATION,
)  # fmt: skip

PIE_BENCH = Profile(
    "pie_bench", "pie-bench", 2, "source", _pie_metrics("structure_distance_sharp"), (*PIE_PREPARATION, STRUCTURE_SHARP),
    note="PnPInversion's evaluate.py with the torchvision that its authors pin (0.13.1), whose Resize does not average pixels of tensors. "
    "Version 1 did, as newer torchvisions do: that is pie_bench_antialias.",
)  # fmt: skip

PIE_BENCH_ANTIALIAS = Profile(
    "pie_bench_antialias", "pie-bench", 1, "source", _pie_metrics(), (*PIE_PREPARATION, STRUCTURE_PREPARATION),
    note="The same with torchvision 0.17 or newer, as who runs the authors' code in a new environment measures.",
)  # fmt: skip

REFEDIT_BENCH = Profile(
    "refedit_bench", "refedit-bench", 1, "source", _pie_metrics(),
    (
        "source and edit at 512 x 512 (PIL bilinear)",
        "mask: polygon filled, to 512 x 512 (OpenCV, linear), dilated by 15 x 15, the border set",
        BACKGROUND, CLIP_SCORE, CLIP_PREPARATION, STRUCTURE_PREPARATION,
    ),
    note="The authors' masked metrics; their judge (VIEScore by GPT-4o) is not run here, its scores can be merged.",
)  # fmt: skip

REASONEDIT_BENCH = Profile(
    "reasonedit_bench", "reasonedit-bench", 1, "source",
    (*_pie_metrics()[1:5], Metric("clip_score", "clip_score_crop", L14, "CLIP score of the edited part", more=True, digits=2)),
    (
        "source and edit at 256 x 256 (PIL bicubic), mask likewise (nearest)",
        "background: both pictures times (1 - mask / 255), grey values of the mask as they are; the mean over all pixels",
        "CLIP score: 100 x cosine, negative ones 0; the edit inside the box around all that is not black in the mask, against the text "
        "behind CLIP:", CLIP_PREPARATION,
    ),
    note="SmartEdit's test/metrics_evaluation.py. Ins-align is what people said: give it as --judge-scores.",
)  # fmt: skip

PROFILES = {
    p.name: p
    for p in (
        MAGICBRUSH, FIREEDIT_EMU, EMU_L14_CLEAN, ANYEDIT_PSEUDO_GT, PIE_BENCH, PIE_BENCH_ANTIALIAS, REFEDIT_BENCH, REASONEDIT_BENCH
    )
}  # fmt: skip


def profile_of(benchmark: str, name: str | None = None) -> Profile:
    """A benchmark's profile by name; None takes its first. Raises ValueError for one that it does not have."""
    own = [p for p in PROFILES.values() if p.benchmark == benchmark]
    found = [p for p in own if name is None or p.name == name]
    if not found:
        raise ValueError(f"{benchmark} has the profiles {', '.join(p.name for p in own)}, not {name!r}")
    return found[0]
