# SPDX-License-Identifier: GPL-3.0-or-later
"""How exactly a known motion is found, on photographs that nothing was tuned on, beside other ways."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from ..opencv import opencv
from ..photo.registration import EXACT, Alignment, align, apply, unmoved
from .motions import BENT, FAMILIES, Case, case, photographs, places_of, read
from .summary import markdown_table

_STEP = 8  # px: every so many pixels the error is looked at
_CONTROLS = 16  # the other ways are slow
_OURS, _TOLD, _NOT_TOLD = "FireEdit", "mask told", "mask not told"
_GREY = np.float32([0.299, 0.587, 0.114])


def run(places: Sequence[Path] = (), each: int = 2, megapixels: float = 0.5, say: Callable[[str], None] = lambda text: None) -> str:
    """The report: every photograph `each` times in every family, every other time with the mask told.

    Raises:
        ValueError: without photographs.
    """
    photos = [read(file, megapixels) for file in photographs(places)]
    families = [*FAMILIES, BENT]
    errors: dict[tuple[str, str], list[np.ndarray]] = {}
    found_all: dict[str, list[Alignment]] = {family: [] for family in families}
    spent = 0.0
    for number, family in enumerate(families):
        for i, photo in enumerate(photos):
            for j in range(each):
                one = case(photo, photos[(i + 5 + j) % len(photos)], family, np.random.default_rng([number, i, j]))
                true = one.motion.target(places_of(one.motion.size)[::_STEP, ::_STEP])

                def note(name: str, found: Alignment, true: np.ndarray = true, family: str = family) -> None:
                    off = np.linalg.norm(found.places()[::_STEP, ::_STEP] - true, axis=-1).ravel()
                    errors.setdefault((name, family), []).append(off)

                told = (i + j) % 2 == 0
                began = time.process_time()
                found = align(one.edited, one.photo, one.mask if told else None)
                spent += time.process_time() - began
                found_all[family].append(found)
                note(_OURS, found)
                note(_TOLD if told else _NOT_TOLD, found)
                if (i * each + j) % _CONTROLS == number % _CONTROLS:
                    for name, way in _WAYS.items():
                        note(name, way(one))
        say(f"{family}: " + ", ".join(f"{name} {_share(errors.get((name, family), []))}" for name in (*_WAYS, _TOLD, _NOT_TOLD)))
    foreign = [align(_fit(photos[(i + 7) % len(photos)], photo), photo) for i, photo in enumerate(photos)]
    foreign += [align(_fit(photos[(i + 11) % len(photos)], photo), photo) for i, photo in enumerate(photos)]
    still = [apply(photo, align(photo, photo)) is photo for photo in photos]
    affine = [found for family in FAMILIES for found in found_all[family]]
    all_true = affine + found_all[BENT]
    names = [*_WAYS, _OURS]
    columns = [*names, _TOLD, _NOT_TOLD]
    rows = [[family, text, *(_share(errors.get((n, family), [])) for n in columns)] for family, text in FAMILIES.items()]
    every = [float(e.max()) for family in FAMILIES for e in errors[_OURS, family]]
    bent = [[n, *(f"{v:.2f}" for v in _spread(errors[n, BENT])), str(len(errors[n, BENT]))] for n in names if (n, BENT) in errors]
    worst = sorted(every)[-5:]
    unsure = [bool(a.refused) or a.uncertainty > EXACT for a in affine]
    return "\n".join([
        f"{len(photos)} photographs of {megapixels:g} megapixels that nothing was tuned on, {len(affine)} cases of affine motion, each "
        "with a piece of another photograph in an ellipse. Counted is the largest error over the whole frame, corners included: the share "
        f"of cases with at most {EXACT} px. The other ways were run on every {_CONTROLS}th case, the edit cut out where they can.", "",
        markdown_table(["family", "what it does", *columns], rows), "",
        f"- **{100 * np.mean([e <= EXACT for e in every]):.1f} % of {len(every)} cases within {EXACT} px.** Median "
        f"{np.median(every):.3f} px; the five worst: {', '.join(f'{e:.2f}' for e in worst)} px.",
        f"- Another photograph: {sum(bool(a.refused) for a in foreign)} of {len(foreign)} refused (largest correlation "
        f"{max(a.correlation for a in foreign):.2f}; the lowest true one was {min(a.correlation for a in all_true):.2f}).",
        f"- Said by the alignment itself to be unsure by more than {EXACT} px, for want of structure: {sum(unsure)} of {len(affine)}, of "
        f"which {sum(e > EXACT for e, u in zip(every, unsure, strict=True) if u)} were. Of all others "
        f"{100 * np.mean([e <= EXACT for e, u in zip(every, unsure, strict=True) if not u]):.1f} % are within {EXACT} px. Its doubt "
        f"holds in {100 * np.mean([e <= a.uncertainty for e, a in zip(every, affine, strict=True) if not a.refused]):.0f} % of the cases.",
        f"- True ones refused: {sum(bool(a.refused) for a in all_true)} of {len(all_true)}. Affine ones that were taken for bent: "
        f"{sum(a.grid is not None for a in affine)} of {len(affine)}.",
        f"- The photograph itself: {sum(still)} of {len(still)} left untouched, the very same values.",
        f"- CPU time of an alignment: {spent / len(all_true):.2f} s.", "",
        "## Beyond affine", "",
        f"The same with waves of 1 to 3 px beside zoom and shift, which no affine motion follows ({len(found_all[BENT])} cases). A coarse "
        "grid of splines follows them where places that it never saw agree better with it: "
        f"{sum(a.grid is not None for a in found_all[BENT])} of {len(found_all[BENT])} cases.", "",
        markdown_table(["way", "mean error, px", "95 % of places within, px", "worst place, median over cases, px", "cases"], bent),
    ])  # fmt: skip


def _share(errors: Sequence[np.ndarray]) -> str:
    if not errors:
        return "-"
    return f"{100 * np.mean([float(e.max()) <= EXACT for e in errors]):.0f} %"


def _spread(errors: Sequence[np.ndarray]) -> tuple[float, float, float]:
    flat = np.concatenate(errors)
    return float(flat.mean()), float(np.percentile(flat, 95)), float(np.median([e.max() for e in errors]))


def _fit(other: np.ndarray, photo: np.ndarray) -> np.ndarray:
    return opencv().resize(other, photo.shape[1::-1], interpolation=opencv().INTER_AREA)


# The ways beside ours, as they are commonly used.


def _phases(one: Case) -> Alignment:
    cv2 = opencv()
    window = cv2.createHanningWindow(one.photo.shape[1::-1], cv2.CV_32F)
    shift, score = cv2.phaseCorrelate(one.photo @ _GREY, one.edited @ _GREY, window)
    return Alignment(np.column_stack([np.eye(2), shift]), one.motion.size, float(score))


def _grey(one: Case) -> Alignment:
    cv2 = opencv()
    stop = (cv2.TERM_CRITERIA_COUNT | cv2.TERM_CRITERIA_EPS, 60, 1e-5)
    outside = (one.mask == 0).astype(np.uint8)
    start = np.eye(2, 3, dtype=np.float32)
    try:
        score, found = cv2.findTransformECC(one.edited @ _GREY, one.photo @ _GREY, start, cv2.MOTION_AFFINE, stop, outside, 5)
    except cv2.error:
        return unmoved(one.motion.size, "no convergence")
    back = np.linalg.inv(found[:, :2].astype(np.float64))
    return Alignment(np.column_stack([back, -back @ found[:, 2]]), one.motion.size, float(score))


class _Homography(Alignment):
    """With a (3, 3) matrix."""

    def places(self, step: int = 1) -> np.ndarray:
        made = np.concatenate([places_of(self.size)[::step, ::step], np.ones((*self.size, 1))[::step, ::step]], -1) @ self.matrix.T
        return made[..., :2] / made[..., 2:]


def _sift(one: Case) -> Alignment:
    return sift_homography(one.edited, one.photo)


def sift_homography(edited: np.ndarray, photo: np.ndarray) -> Alignment:
    """Matched SIFT points, ratio test .75, RANSAC at 5 px: the recipe of packs that align."""
    cv2 = opencv()
    size, sift = photo.shape[:2], cv2.SIFT_create(2500)
    (here, first), (there, second) = (sift.detectAndCompute((p @ _GREY * 255).astype(np.uint8), None) for p in (photo, edited))
    if first is None or second is None or len(first) < 8 or len(second) < 8:
        return unmoved(size, "no points")
    pairs = [m[0] for m in cv2.BFMatcher().knnMatch(first, second, k=2) if len(m) == 2 and m[0].distance < 0.75 * m[1].distance]
    if len(pairs) < 8:
        return unmoved(size, "no matches")
    a, b = np.float32([here[m.queryIdx].pt for m in pairs]), np.float32([there[m.trainIdx].pt for m in pairs])
    cv2.setRNGSeed(0)
    matrix, inliers = cv2.findHomography(a, b, cv2.RANSAC, 5.0)
    return unmoved(size, "no model") if matrix is None else _Homography(matrix, size, float(inliers.mean()))


_WAYS: dict[str, Callable[[Case], Alignment]] = {"phase correlation": _phases, "ECC on grey": _grey, "SIFT, homography": _sift}
